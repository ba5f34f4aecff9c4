/*
 * A preload library with an ibv_reg_mr() whose regions are not what was asked for, from the third on: their length is
 * one byte short. WRONG=lkey: their lkey is 0.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <infiniband/verbs.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#undef ibv_reg_mr

static atomic_int calls;

struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	struct ibv_mr *(*real)(struct ibv_pd *, void *, size_t, int);
	const char *wrong = getenv("WRONG");

	void *libibverbs = dlopen("libibverbs.so.1", RTLD_NOLOAD | RTLD_LAZY);
	*(void **)&real = libibverbs ? dlvsym(libibverbs, "ibv_reg_mr", "IBVERBS_1.1") : NULL;
	struct ibv_mr *mr = real ? real(pd, addr, length, access) : NULL;
	if (mr && atomic_fetch_add(&calls, 1) >= 2) {
		if (wrong && !strcmp(wrong, "lkey"))
			mr->lkey = 0;
		else
			mr->length--;
	}
	return mr;
}
