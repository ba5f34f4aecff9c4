/*
 * A library that simulates the NVIDIA driver, preloaded behind mrlock: its ioctl() takes a
 * millisecond for NV_ESC_RM_FREE, and its ibv_reg_mr(), in front of libibverbs, also takes a
 * millisecond. At exit it prints whether one was inside while the other was.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <infiniband/verbs.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>

#undef ibv_reg_mr

#define NV_ESC_RM_FREE 0xC0104629

static atomic_int registering, freeing, met;

static void inside(atomic_int *mine, atomic_int *other)
{
	struct timespec millisecond = {.tv_nsec = 1000000};

	atomic_fetch_add(mine, 1);
	if (atomic_load(other))
		atomic_fetch_add(&met, 1);
	nanosleep(&millisecond, NULL);
	atomic_fetch_sub(mine, 1);
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	va_start(arguments, request);
	void *argument = va_arg(arguments, void *);
	va_end(arguments);

	if ((unsigned int)request == NV_ESC_RM_FREE) {
		inside(&freeing, &registering);
		return 0;
	}
	int (*next)(int, unsigned long, ...) = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
	return next(fd, request, argument);
}

struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	struct ibv_mr *(*next)(struct ibv_pd *, void *, size_t, int) =
		(struct ibv_mr * (*)(struct ibv_pd *, void *, size_t, int)) dlsym(RTLD_NEXT, "ibv_reg_mr");
	inside(&registering, &freeing);
	return next(pd, addr, length, access);
}

__attribute__((destructor)) static void report(void)
{
	printf("met: %s\n", atomic_load(&met) ? "yes" : "no");
	fflush(stdout);
}
