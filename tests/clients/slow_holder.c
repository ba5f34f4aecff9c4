/*
 * slow_holder HOW SECONDS WAITERS
 *
 * A thread stays inside a registration for SECONDS while WAITERS others wait. Meanwhile it
 *
 *   sleeps    sleeps
 *   stops     is stopped, and the whole process with it, by SIGSTOP
 *   traced    is stopped, alone, by a debugger
 *   vforks    is in a sleep that nothing interrupts: it waits for a child of vfork
 */
#define _GNU_SOURCE
#include "inside_registration.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>

static struct caller holder, waiters[1023];
static long seconds;
static int to_helper[2], from_helper[2];

static void sleep_through(void)
{
	struct timespec left = {.tv_sec = seconds};

	while (nanosleep(&left, &left))
		;
}

/* The values of `inside`. */
static void hold_asleep(void)
{
	hold();
	sleep_through();
}

static void hold_and_ask_the_helper(void)
{
	pid_t thread = own_id();
	char done;

	hold();
	if (write(to_helper[1], &thread, sizeof thread) < 0 || read(from_helper[0], &done, 1) != 1) {
		fprintf(stderr, "slow_holder: the helper failed\n");
		_exit(1);
	}
}

static void hold_and_vfork(void)
{
	hold();
	if (!vfork()) {
		const struct timespec all = {.tv_sec = seconds};
		syscall(SYS_nanosleep, &all, NULL);
		_exit(0);
	}
}

/* The helper process: reads a thread id, and stops that thread or its process. */
static void help(int by_tracing)
{
	pid_t thread;
	int status;

	if (read(to_helper[0], &thread, sizeof thread) != sizeof thread)
		_exit(1);
	if (by_tracing) {
		if (ptrace(PTRACE_SEIZE, thread, NULL, NULL) ||
		    ptrace(PTRACE_INTERRUPT, thread, NULL, NULL) ||
		    waitpid(thread, &status, __WALL) != thread || !WIFSTOPPED(status)) {
			perror("slow_holder: ptrace");
			_exit(1);
		}
		sleep_through();
		ptrace(PTRACE_DETACH, thread, NULL, NULL);
	} else {
		kill(getppid(), SIGSTOP);
		sleep_through();
		kill(getppid(), SIGCONT);
	}
	if (write(from_helper[1], "", 1) != 1)
		_exit(1);
	_exit(0);
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	int count = argc > 3 ? atoi(argv[3]) : 0;
	int traced = !strcmp(how, "traced"), stops = !strcmp(how, "stops");

	seconds = argc > 2 ? atol(argv[2]) : 0;
	if (seconds < 1 || count < 1 || count > 1023) {
		fprintf(stderr, "usage: slow_holder sleeps|stops|traced|vforks SECONDS WAITERS\n");
		return 2;
	}
	if (traced || stops) {
		pid_t helper;
		if (pipe(to_helper) || pipe(from_helper))
			return 1;
		helper = fork();
		if (!helper)
			help(traced);
		/* Needed where Yama lets only a parent trace. Without Yama the call fails, and is not needed. */
		prctl(PR_SET_PTRACER, helper);
	}
	start_caller(&holder, 0,
		     traced || stops	      ? hold_and_ask_the_helper
		     : !strcmp(how, "vforks") ? hold_and_vfork
					      : hold_asleep);
	sem_wait(&entered);
	print_holder(holder.id);
	start_queue(waiters, count);
	sem_post(&released);
	join_queue(&holder, 1);
	join_queue(waiters, count);
	print_served();
	return 0;
}
