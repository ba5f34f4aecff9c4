/*
 * single_step exit|call|fork alone|queued
 *
 * A thread makes a call that the ioctl hook serializes. Before one of its instructions, a signal
 * handler
 *
 *   exit   ends the thread, as if the kernel had ended it
 *   call   makes the same call
 *   fork   forks; the child goes on with the call, and makes another
 *
 * and at the end another thread must be served. This is done for each instruction of the call,
 * each time in a process of its own. `queued`: one thread is inside a registration, and another
 * waits, until the interrupted thread sleeps or has ended.
 */
#define _GNU_SOURCE
#include "each_instruction.h"
#include "inside_registration.h"

#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#define AT_ONCE 64 /* processes */

enum { SERVED = 0, MISSED = 3 };

static int device;
static _Atomic pid_t stepping, over;
static struct caller holder, waiter;

/* A request to destroy a region. /dev/null answers ENOTTY. */
static void call(void)
{
	struct ib_uverbs_ioctl_hdr destroy = {
		.length = sizeof destroy,
		.object_id = UVERBS_OBJECT_MR,
		.method_id = UVERBS_METHOD_MR_DESTROY,
	};
	if (ioctl(device, RDMA_VERBS_IOCTL, &destroy) != -1 || errno != ENOTTY) {
		perror("single_step: ioctl");
		_exit(1);
	}
}

static void end_thread(void) { syscall(SYS_exit, 0); }

static void *call_once(void *unused)
{
	call();
	return unused;
}

static void be_served(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, call_once, NULL) || pthread_join(thread, NULL))
		_exit(1);
}

static pid_t forked = -1;

static void fork_here(void)
{
	forked = fork();
	if (!forked)
		give_up_in_time();
}

static void *make_call(void *unused)
{
	atomic_store(&stepping, own_id());
	begin_steps();
	call();
	end_steps();
	if (!forked) {
		call();
		be_served();
		_exit(SERVED);
	}
	atomic_store(&over, 1);
	return unused;
}

/* In a process of its own. Without a number, the instructions are recorded. */
static int interrupt_at(long number, bool use_flag, void (*action)(void), bool queued)
{
	pthread_t thread;
	int status;

	give_up_in_time();
	call(); /* the library looks functions up at the first call */
	if (queued) {
		start_caller(&holder, 0, hold);
		sem_wait(&entered);
		start_queue(&waiter, 1);
	}
	if (number < 0)
		record();
	else
		interrupt_before(number, use_flag, action);
	if (pthread_create(&thread, NULL, make_call, NULL))
		return 1;
	if (queued) {
		while (!stepping || !(over || is_asleep(stepping)))
			sched_yield();
		sem_post(&released);
		join_queue(&holder, 1);
		join_queue(&waiter, 1);
	}
	pthread_join(thread, NULL);
	if (number >= 0 && !was_interrupted())
		return MISSED;
	be_served();
	if (forked > 0 && (waitpid(forked, &status, 0) != forked || status))
		return 1;
	return SERVED;
}

static int end_of(pid_t child, long number)
{
	int status;

	if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) ||
	    (WEXITSTATUS(status) != SERVED && WEXITSTATUS(status) != MISSED)) {
		fprintf(stderr, "single_step: interrupted before instruction %ld: status %#x\n", number,
			status);
		exit(1);
	}
	return WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
	const char *how = argc == 3 ? argv[1] : "";
	void (*action)(void) = !strcmp(how, "exit")   ? end_thread
			       : !strcmp(how, "call") ? call
			       : !strcmp(how, "fork") ? fork_here
						      : NULL;
	bool queued = argc == 3 && !strcmp(argv[2], "queued");
	pid_t child[AT_ONCE];
	long missed = 0;

	device = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (!action || device < 0) {
		fprintf(stderr, "usage: single_step exit|call|fork alone|queued\n");
		return 2;
	}
	alarm(0); /* each child has its own */
	prepare_steps();
	for (long first = -1; first < path->length; first += first < 0 ? 1 : AT_ONCE) {
		long end = first < 0 ? 0 : first + AT_ONCE < path->length ? first + AT_ONCE : path->length;
		for (long number = first; number < end; number++)
			if (!(child[number - first] = fork()))
				_exit(interrupt_at(number, false, action, queued));
		for (long number = first; number < end; number++) {
			if (end_of(child[number - first], number) == SERVED)
				continue;
			pid_t again = fork();
			if (!again)
				_exit(interrupt_at(number, true, action, queued));
			missed += end_of(again, number) == MISSED;
		}
	}
	printf("instructions %ld missed %ld\n", path->length - missed, missed);
	return 0;
}
