/*
 * For clients that do something while they are inside a registration, and that
 * need to know when another thread waits.
 *
 * The fake libibverbs pins memory with madvise(), which this header replaces.
 */
#ifndef INSIDE_REGISTRATION_H
#define INSIDE_REGISTRATION_H

#include "run_together.h"

#include <fcntl.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Two pages, of whatever size. */
static char memory[2 * 65536] __attribute__((aligned(65536)));

/* What this thread does inside its next registration. */
static __thread void (*inside)(void);

int madvise(void *address, size_t length, int advice)
{
	void (*act)(void) = inside;

	inside = NULL;
	if (act)
		act();
	return (int)syscall(SYS_madvise, address, length, advice);
}

/* SIGALRM ends a process that hangs. A forked child must call this itself. */
__attribute__((constructor)) static void give_up_in_time(void)
{
	const char *seconds = getenv("GIVE_UP_AFTER");
	alarm(seconds ? (unsigned int)atoi(seconds) : 60);
}

/* One region, registered, checked and deregistered. */
static inline void register_once(struct ibv_pd *pd)
{
	struct ibv_mr *mr = ibv_reg_mr(pd, memory, sizeof memory, IBV_ACCESS_LOCAL_WRITE);
	const char *problem = mr ? wrong_field(mr, pd, memory, sizeof memory) : strerror(errno);

	if (problem || ibv_dereg_mr(mr)) {
		fprintf(stderr, "register_once: %s\n", problem ? problem : "ibv_dereg_mr failed");
		_exit(1);
	}
}

static inline pid_t own_id(void) { return (pid_t)syscall(SYS_gettid); }

/* Whether that thread sleeps, in whatever call: for gVisor, which does not say in which. -1 as below. */
static inline int sleeps_anywhere(pid_t thread)
{
	char path[64], stat[512] = "", *state;

	snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)thread);
	int file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return -1;
	ssize_t length = read(file, stat, sizeof stat - 1);
	close(file);
	state = length > 0 ? strrchr(stat, ')') : NULL;
	return state ? state[2] == 'S' : -1;
}

/* Whether that thread sleeps on a futex; -1 if /proc does not tell, or the thread has ended. (Under qemu-user, /proc is that of
 * the real processor, where futex() may have another number.) */
static inline int is_asleep(pid_t thread)
{
	char path[64], call[5] = "", wanted[8];
	const char *real = getenv("REAL_SYS_FUTEX");

	snprintf(path, sizeof path, "/proc/self/task/%d/syscall", (int)thread);
	snprintf(wanted, sizeof wanted, "%d ", real ? atoi(real) : SYS_futex);
	int file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return sleeps_anywhere(thread);
	ssize_t length = read(file, call, 4);
	close(file);
	return length < 0 ? -1 : !strncmp(call, wanted, strlen(wanted));
}

/* Returns when that thread, whose next call is a registration, sleeps because another thread is inside. */
static inline void until_asleep(_Atomic pid_t *thread)
{
	int asleep;

	while (!atomic_load(thread))
		sched_yield();
	while (!(asleep = is_asleep(atomic_load(thread))))
		sched_yield();
	if (asleep < 0) {
		perror("until_asleep: /proc/self/task/.../syscall");
		_exit(1);
	}
}

/* A value of `inside`: stay inside until released. */
static sem_t entered, released;

static inline void hold(void)
{
	sem_post(&entered);
	while (sem_wait(&released))
		;
}

/* A thread that registers once. */
struct caller {
	int number;
	void (*inside)(void);
	struct ibv_pd *pd;
	_Atomic pid_t id;
	pthread_t thread;
};

static __thread int own_number;
static int served[1024], served_count;

/* A value of `inside`: record the order of the threads. */
static inline void note(void) { served[served_count++] = own_number; }

static inline void *caller_thread(void *argument)
{
	struct caller *me = argument;

	own_number = me->number;
	inside = me->inside;
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL); /* thread_ends.c cancels it */
	atomic_store(&me->id, own_id());
	register_once(me->pd);
	return me;
}

static inline void start_caller(struct caller *caller, int number, void (*inside)(void))
{
	*caller = (struct caller){
		.number = number, .inside = inside, .pd = open_pd(linked_verbs(), number)};
	if (!caller->pd || pthread_create(&caller->thread, NULL, caller_thread, caller)) {
		fprintf(stderr, "cannot start thread %d\n", number);
		_exit(1);
	}
}

/* Starts so many threads, each when the one before waits. */
static inline void start_queue(struct caller *queue, int length)
{
	for (int i = 0; i < length; i++) {
		start_caller(&queue[i], i + 1, note);
		until_asleep(&queue[i].id);
	}
}

static inline void join_queue(struct caller *queue, int length)
{
	for (int i = 0; i < length; i++)
		pthread_join(queue[i].thread, NULL);
}

static inline void print_holder(pid_t thread)
{
	printf("holder %d address %p length %zu\n", (int)thread, (void *)memory, sizeof memory);
}

static inline void print_served(void)
{
	printf("served");
	for (int i = 0; i < served_count; i++)
		printf(" %d", served[i]);
	printf("\n");
}

#endif
