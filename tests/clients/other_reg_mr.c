/*
 * A preload library that has an ibv_reg_mr() of its own and none of the others: it
 * counts, and asks the libibverbs.so.1 that the process has loaded. At exit it says
 * what it saw.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <infiniband/verbs.h>
#include <stdatomic.h>
#include <stdio.h>

#undef ibv_reg_mr

static atomic_int calls;

struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	struct ibv_mr *(*real)(struct ibv_pd *, void *, size_t, int);
	void *libibverbs = dlopen("libibverbs.so.1", RTLD_NOLOAD | RTLD_LAZY);
	*(void **)&real = libibverbs ? dlvsym(libibverbs, "ibv_reg_mr", "IBVERBS_1.1") : NULL;
	atomic_fetch_add(&calls, 1);
	return real ? real(pd, addr, length, access) : NULL;
}

__attribute__((destructor)) static void say(void)
{
	printf("other ibv_reg_mr: %d calls\n", calls);
	fflush(stdout);
}
