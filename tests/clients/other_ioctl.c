/*
 * A preload library that has an ioctl() of its own: it answers requests for
 * descriptor -1 itself, takes a millisecond for each uverbs request and counts how
 * many of them are under way at once. At exit it says what it saw.
 */
#define _GNU_SOURCE
#include <rdma/rdma_user_ioctl_cmds.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static atomic_int calls, inside, peak;

int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	va_start(arguments, request);
	void *argument = va_arg(arguments, void *);
	va_end(arguments);

	atomic_fetch_add(&calls, 1);
	if (fd == -1)
		return 4711;
	if (request == RDMA_VERBS_IOCTL) {
		int now = atomic_fetch_add(&inside, 1) + 1, most = atomic_load(&peak);
		while (most < now && !atomic_compare_exchange_weak(&peak, &most, now))
			;
		const struct timespec millisecond = {.tv_nsec = 1000000};
		nanosleep(&millisecond, NULL);
		atomic_fetch_sub(&inside, 1);
	}
	return (int)syscall(SYS_ioctl, fd, request, argument);
}

__attribute__((destructor)) static void say(void)
{
	printf("other ioctl: %d calls, at most %d at once\n", calls, peak);
	fflush(stdout);
}
