/*
 * A library that simulates the NVIDIA driver, preloaded behind mrlock: its ioctl() takes a
 * millisecond for NV_ESC_RM_FREE, and its ibv_reg_mr(), in front of libibverbs, also takes a
 * millisecond. At exit it prints whether one was inside while the other was.
 */
#define _GNU_SOURCE
#include "gpu_free_ioctl.h"

#include <infiniband/verbs.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#undef ibv_reg_mr

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

static void free_gpu_memory(void)
{
	inside(&freeing, &registering);
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
