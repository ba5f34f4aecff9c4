/*
 * fork traffic CHILDREN   Four threads register all the time; the process forks so many
 *                         children, one after the other, and each opens its own devices
 *                         and registers in two threads.
 * fork held CHILDREN      The same, but the first half of the children is forked while one
 *                         thread stays inside and the others wait. Not with a real libibverbs.
 * fork inside             Forks from a signal handler that interrupted a registration; the
 *                         child stays inside for a while, and another thread of it waits.
 * fork waiting            The same where the handler interrupted the wait for it.
 * fork bare               A clone without fork handlers, while one thread is held inside and
 *                         another waits; the child registers.
 * fork spawn              vfork and exec, posix_spawn and system, of `fork child`, while
 *                         one thread is held inside.
 * fork child              Registers once.
 */
#define _GNU_SOURCE
#include "inside_registration.h"

#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#define THREADS 4
#define CALLS_OF_A_CHILD_THREAD 3

static int child_work(struct ibv_pd *pd, int index)
{
	(void)index;
	for (int i = 0; i < CALLS_OF_A_CHILD_THREAD; i++)
		register_once(pd);
	return 0;
}

/* 0 if the child ended with status 0; otherwise 1, after printing how it ended. */
static int failed(const char *what, pid_t child)
{
	int status = -1;

	if (child < 0 || waitpid(child, &status, 0) != child)
		perror(what);
	else if (status)
		fprintf(stderr, "fork: %s: signal %d, status %d\n", what, WTERMSIG(status),
			WEXITSTATUS(status));
	return status != 0;
}

static int fork_children(int count)
{
	for (int i = 0; i < count; i++) {
		pid_t child = fork();
		if (!child) {
			give_up_in_time();
			prctl(PR_SET_NAME, "child");
			exit(run_together(linked_verbs(), 2, child_work));
		}
		if (failed("a child", child))
			return 1;
	}
	return 0;
}

static atomic_int enough;
static atomic_long calls;
static struct caller crew[THREADS];

static void *keep_registering(void *argument)
{
	struct caller *me = argument;

	inside = me->inside;
	atomic_store(&me->id, own_id());
	do {
		register_once(me->pd);
		atomic_fetch_add(&calls, 1);
	} while (!atomic_load(&enough));
	return NULL;
}

static int fork_among_threads(int held, int children)
{
	int problem = 0;

	prctl(PR_SET_NAME, "parent");
	/* All devices are open before any thread registers, and before the first fork. */
	for (int i = 0; i < THREADS; i++) {
		crew[i].pd = open_pd(linked_verbs(), i);
		if (!crew[i].pd)
			return 1;
	}
	for (int i = 0; i < THREADS; i++) {
		crew[i].inside = held && !i ? hold : NULL;
		if (pthread_create(&crew[i].thread, NULL, keep_registering, &crew[i]))
			return 1;
		if (held && !i)
			sem_wait(&entered);
		else if (held)
			until_asleep(&crew[i].id);
	}
	if (held) {
		problem = fork_children(children / 2);
		sem_post(&released);
		children -= children / 2;
	}
	problem = problem || fork_children(children);
	atomic_store(&enough, 1);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(crew[i].thread, NULL);
		if (close_pd(linked_verbs(), crew[i].pd))
			problem = 1;
	}
	printf("parent %d calls %ld\n", (int)getpid(), calls);
	return problem;
}

static struct ibv_pd *own_pd;
static struct caller waiters[2], in_child;
static _Atomic pid_t child = -1;

/* In a child that is inside: another thread must wait. */
static void stay_while_another_waits(void)
{
	const struct timespec a_while = {.tv_sec = 1, .tv_nsec = 500000000};

	served_count = 0;
	start_caller(&in_child, 1, note);
	until_asleep(&in_child.id);
	nanosleep(&a_while, NULL);
	if (served_count)
		_exit(2); /* it came in at the same time */
}

static void fork_here(int signal)
{
	(void)signal;
	child = fork();
	if (!child)
		give_up_in_time();
}

static void fork_from_a_handler(void)
{
	start_queue(waiters, 2);
	signal(SIGUSR1, fork_here);
	raise(SIGUSR1);
	if (!child) {
		register_once(own_pd);
		stay_while_another_waits();
	}
}

static int fork_inside(void)
{
	own_pd = open_pd(linked_verbs(), 0);
	inside = fork_from_a_handler;
	register_once(own_pd);
	if (!child) {
		join_queue(&in_child, 1);
		register_once(own_pd);
		exit(0);
	}
	int problem = failed("the child", child);
	join_queue(waiters, 2);
	register_once(own_pd);
	print_served();
	return problem;
}

static void stay_if_in_the_child(void)
{
	if (!child)
		stay_while_another_waits();
}

static int fork_waiting(void)
{
	start_caller(&in_child, 0, hold);
	sem_wait(&entered);
	start_caller(&waiters[0], 1, stay_if_in_the_child);
	until_asleep(&waiters[0].id);
	signal(SIGUSR1, fork_here);
	pthread_kill(waiters[0].thread, SIGUSR1);
	while (child < 0)
		sched_yield();
	int problem = failed("the child", child);
	sem_post(&released);
	join_queue(&in_child, 1);
	join_queue(waiters, 1);
	return problem;
}

static int fork_bare(void)
{
	own_pd = open_pd(linked_verbs(), 2);
	register_once(own_pd); /* the child has used the lock under another id */
	start_caller(&in_child, 0, hold);
	sem_wait(&entered);
	start_queue(waiters, 1);
	child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	if (!child) {
		give_up_in_time();
		register_once(own_pd);
		_exit(0);
	}
	int problem = failed("the child", child);
	sem_post(&released);
	join_queue(&in_child, 1);
	join_queue(waiters, 1);
	return problem;
}

static int spawn(void)
{
	char *const arguments[] = {"fork", "child", NULL};
	char command[4096];
	pid_t spawned;
	int problem = 0;

	start_caller(&in_child, 0, hold);
	sem_wait(&entered);
	start_queue(waiters, 2);

	pid_t vforked = vfork();
	if (!vforked) {
		execv("/proc/self/exe", arguments);
		_exit(127);
	}
	problem += failed("vfork", vforked);
	if (posix_spawn(&spawned, "/proc/self/exe", NULL, NULL, arguments, environ))
		return 1;
	problem += failed("posix_spawn", spawned);
	snprintf(command, sizeof command, "exec /proc/%d/exe child", (int)getpid());
	problem += system(command) != 0;

	sem_post(&released);
	join_queue(&in_child, 1);
	join_queue(waiters, 2);
	print_served();
	return problem;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	int children = argc > 2 ? atoi(argv[2]) : 0;

	if (!strcmp(how, "traffic") && children > 0)
		return fork_among_threads(0, children);
	if (!strcmp(how, "held") && children > 0)
		return fork_among_threads(1, children);
	if (!strcmp(how, "inside"))
		return fork_inside();
	if (!strcmp(how, "waiting"))
		return fork_waiting();
	if (!strcmp(how, "bare"))
		return fork_bare();
	if (!strcmp(how, "spawn"))
		return spawn();
	if (!strcmp(how, "child")) {
		register_once(open_pd(linked_verbs(), 0));
		return 0;
	}
	fprintf(stderr, "usage: fork traffic|held CHILDREN | inside | waiting | bare | spawn | child\n");
	return 2;
}
