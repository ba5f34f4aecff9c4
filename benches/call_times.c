/*
 * Preloaded behind a lock, in front of libibverbs: notes when each call begins and
 * ends there. This gives the time inside the calls; the rest of the time is the lock's.
 */
#define _GNU_SOURCE
#include "call_times.h"

#include <dlfcn.h>
#include <stddef.h>

struct ibv_pd;
struct ibv_mr;

struct call_times call_times;

/* No read-modify-write: the lock orders the threads that run this. */
static void add(_Atomic uint64_t *sum, uint64_t more)
{
	atomic_store_explicit(sum, atomic_load_explicit(sum, memory_order_relaxed) + more,
			      memory_order_relaxed);
}

static uint64_t begin(void)
{
	uint64_t last = atomic_load_explicit(&call_times.last_left, memory_order_relaxed);
	uint64_t now = now_ns();
	if (last)
		add(&call_times.lost, now - last);
	return now;
}

static void end(uint64_t since)
{
	add(&call_times.calls, 1);
	uint64_t now = now_ns();
	add(&call_times.held, now - since);
	atomic_store_explicit(&call_times.last_left, now, memory_order_relaxed);
}

struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	static struct ibv_mr *(*next)(struct ibv_pd *, void *, size_t, int);
	if (!next)
		next = dlsym(RTLD_NEXT, "ibv_reg_mr");
	uint64_t since = begin();
	struct ibv_mr *mr = next(pd, addr, length, access);
	end(since);
	return mr;
}

int ibv_dereg_mr(struct ibv_mr *mr)
{
	static int (*next)(struct ibv_mr *);
	if (!next)
		next = dlsym(RTLD_NEXT, "ibv_dereg_mr");
	uint64_t since = begin();
	int error = next(mr);
	end(since);
	return error;
}
