/*
 * single_step exit|call|fork alone|queued
 *
 * A thread makes a call that the ioctl hook serializes, one processor instruction at a
 * time. After some number of them a signal handler
 *
 *   exit   ends the thread, as if the kernel had ended it
 *   call   makes the same call
 *   fork   forks; the child goes on with the call, and makes another
 *
 * and at the end another thread must be served. This is done for every number of instructions
 * up to the length of the call, each time in a process of its own. `queued`: one thread is
 * inside a registration, and another waits, until the stepped thread sleeps or has ended.
 */
#define _GNU_SOURCE
#include "inside_registration.h"

#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <ucontext.h>

#define TRAP_FLAG 0x100
#define AT_ONCE 32 /* processes */

enum { SERVED = 0, CALL_WAS_OVER = 3 };

static int device;
static void (*interrupt)(void);
static long steps; /* left until the interruption */
static int interrupted;
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

static void trace(int on)
{
	unsigned long flags = __builtin_ia32_readeflags_u64();
	__builtin_ia32_writeeflags_u64(on ? flags | TRAP_FLAG : flags & ~(unsigned long)TRAP_FLAG);
}

static void step(int signal, siginfo_t *info, void *context)
{
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;

	(void)signal, (void)info;
	if (--steps > 0)
		return;
	registers[REG_EFL] &= ~TRAP_FLAG;
	interrupted = 1;
	interrupt();
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
	trace(1);
	call();
	trace(0);
	if (!forked) {
		call();
		be_served();
		_exit(SERVED);
	}
	atomic_store(&over, 1);
	return unused;
}

/* In a process of its own. */
static int interrupt_after(long number, void (*action)(void), int queued)
{
	const struct sigaction on_trap = {.sa_sigaction = step, .sa_flags = SA_SIGINFO};
	pthread_t thread;
	int status;

	give_up_in_time();
	call(); /* the library looks functions up at the first call */
	steps = number;
	interrupt = action;
	sigaction(SIGTRAP, &on_trap, NULL);
	if (queued) {
		start_caller(&holder, 0, hold);
		sem_wait(&entered);
		start_queue(&waiter, 1);
	}
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
	be_served();
	if (forked > 0 && (waitpid(forked, &status, 0) != forked || status))
		return 1;
	return interrupted ? SERVED : CALL_WAS_OVER;
}

int main(int argc, char **argv)
{
	const char *how = argc == 3 ? argv[1] : "";
	void (*action)(void) = !strcmp(how, "exit")   ? end_thread
			       : !strcmp(how, "call") ? call
			       : !strcmp(how, "fork") ? fork_here
						      : NULL;
	long number = 1, before_the_end = 0;

	device = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (!action || device < 0) {
		fprintf(stderr, "usage: single_step exit|call|fork alone|queued\n");
		return 2;
	}
	alarm(0); /* each child has its own */
	/* AT_ONCE processes at a time, until in all of them the call ended before the interruption. */
	for (int served = 1; served;) {
		pid_t first = 0;
		served = 0;
		for (int i = 0; i < AT_ONCE; i++, number++) {
			pid_t child = fork();
			first = first ? first : child;
			if (!child)
				_exit(interrupt_after(number, action, !strcmp(argv[2], "queued")));
			if (child < 0)
				return 1;
		}
		for (int i = 0; i < AT_ONCE; i++) {
			int status;
			pid_t child = wait(&status);
			if (!WIFEXITED(status) ||
			    (WEXITSTATUS(status) != SERVED && WEXITSTATUS(status) != CALL_WAS_OVER)) {
				fprintf(stderr, "single_step: interrupted after instruction %ld: status %#x\n",
					number - AT_ONCE + (child - first), status);
				return 1;
			}
			served += !WEXITSTATUS(status);
		}
		before_the_end += served;
	}
	printf("instructions %ld\n", before_the_end);
	return 0;
}
