/*
 * thread_ends HOW
 *
 * A thread ends inside a registration while three others wait, which must then
 * be served. It ends
 *
 *   cancel     by pthread_cancel, asynchronously
 *   exit       by pthread_exit in a signal handler
 *   oops       by the exit system call in a signal handler: as if the kernel had ended it
 *   main       by pthread_exit in a signal handler, and is the main thread
 *   reuse      as by `oops`, and a new thread gets its id at once
 *   newcomer   as by `reuse`, without waiters, and the new thread is the next to register
 *
 * or, with `waiter`, the first of the three is cancelled while it waits. `reuse` and
 * `newcomer` need a process id namespace of their own, and /proc for it.
 */
#define _GNU_SOURCE
#include "inside_registration.h"

#include <signal.h>
#include <time.h>

static struct caller holder, waiters[3];
static int (*end)(void); /* NULL: the thread is cancelled */

static void handler(int signal)
{
	(void)signal;
	end();
}

static int by_exit(void) { pthread_exit(NULL); }
static int by_oops(void) { return (int)syscall(SYS_exit, 0); }

/* Can be called more than once. */
static void until_inside(void)
{
	sem_wait(&entered);
	sem_post(&entered);
}

/* A value of `inside`. */
static void hold_and_end(void)
{
	hold();
	signal(SIGUSR1, handler);
	raise(SIGUSR1);
	fprintf(stderr, "thread_ends: still there\n");
	_exit(1);
}

static void hold_for_ever(void)
{
	sem_post(&entered);
	for (;;)
		syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0);
}

/* The kernel counts the start of a thread in hundredths of a second: let some pass. */
static void hold_for_some_ticks_and_end(void)
{
	const struct timespec ticks = {.tv_nsec = 50000000};
	nanosleep(&ticks, NULL);
	hold_and_end();
}

/* The waiters queue, the holder ends, and all waiters are served. */
static void *direct(void *unused)
{
	until_inside();
	start_queue(waiters, 3);
	if (end)
		sem_post(&released);
	else
		pthread_cancel(holder.thread);
	join_queue(waiters, 3);
	print_served();
	return unused;
}

static int main_ends(void)
{
	pthread_t director;

	end = by_exit;
	print_holder(own_id());
	if (pthread_create(&director, NULL, direct, NULL))
		return 1;
	inside = hold_and_end;
	register_once(open_pd(linked_verbs(), 0));
	return 1;
}

static int holder_ends(int (*how)(void))
{
	end = how;
	start_caller(&holder, 0, end ? hold_and_end : hold_for_ever);
	until_inside();
	print_holder(holder.id);
	direct(NULL);
	pthread_join(holder.thread, NULL);
	return 0;
}

static int waiter_ends(void)
{
	start_caller(&holder, 0, hold);
	until_inside();
	start_queue(waiters, 3);
	print_holder(waiters[0].id);
	pthread_cancel(waiters[0].thread);
	pthread_join(waiters[0].thread, NULL);
	sem_post(&released);
	join_queue(&holder, 1);
	join_queue(waiters + 1, 2);
	print_served();
	return 0;
}

static _Atomic pid_t next_id;

/* Ends at once unless it has the id of the thread that ended. */
static void *new_thread(void *registers)
{
	atomic_store(&next_id, own_id());
	if (own_id() != holder.id)
		return NULL;
	if (registers) {
		own_number = 1;
		inside = note;
		register_once(waiters[0].pd);
	} else {
		while (sem_wait(&released))
			;
	}
	return registers;
}

static int id_is_used_again(int by_a_newcomer)
{
	pthread_t thread;

	end = by_oops;
	waiters[0].pd = open_pd(linked_verbs(), 1);
	start_caller(&holder, 0, hold_for_some_ticks_and_end);
	until_inside();
	print_holder(holder.id);
	if (!by_a_newcomer)
		start_queue(waiters, 3);
	sem_post(&released);
	pthread_join(holder.thread, NULL);

	for (int i = 0; i < 100 && next_id != holder.id; i++) {
		int file = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
		if (file < 0 || dprintf(file, "%d", (int)holder.id - 1) < 0) {
			perror("thread_ends: /proc/sys/kernel/ns_last_pid");
			return 1;
		}
		close(file);
		atomic_store(&next_id, 0);
		if (pthread_create(&thread, NULL, new_thread, by_a_newcomer ? &holder : NULL))
			return 1;
		while (!atomic_load(&next_id))
			sched_yield();
		if (next_id != holder.id)
			pthread_join(thread, NULL);
	}
	printf("the new thread's id: %s\n", next_id == holder.id ? "the same" : "another");
	if (!by_a_newcomer) {
		join_queue(waiters, 3);
		sem_post(&released);
	}
	pthread_join(thread, NULL);
	print_served();
	return 0;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";

	if (!strcmp(how, "cancel"))
		return holder_ends(NULL);
	if (!strcmp(how, "exit"))
		return holder_ends(by_exit);
	if (!strcmp(how, "oops"))
		return holder_ends(by_oops);
	if (!strcmp(how, "main"))
		return main_ends();
	if (!strcmp(how, "waiter"))
		return waiter_ends();
	if (!strcmp(how, "reuse"))
		return id_is_used_again(0);
	if (!strcmp(how, "newcomer"))
		return id_is_used_again(1);
	fprintf(stderr, "usage: thread_ends cancel|exit|oops|main|waiter|reuse|newcomer\n");
	return 2;
}
