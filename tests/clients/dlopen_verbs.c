/*
 * dlopen_verbs [-s] [threads]
 *
 * Not linked to libibverbs: loads it with RTLD_LOCAL and takes the functions from
 * the handle, by dlvsym with their versions as NCCL does, or (-s) by dlsym as
 * Mooncake's TENT does. Its threads register memory at once.
 */
#define _GNU_SOURCE
#include <dlfcn.h>

/* This client has the functions by pointer only: the linked ones must stay unreferenced. */
#include <infiniband/verbs.h>
#undef ibv_reg_mr
#undef ibv_reg_mr_iova
#include "run_together.h"

static struct opener verbs;
static struct ibv_mr *(*reg_mr)(struct ibv_pd *, void *, size_t, int);
static struct ibv_mr *(*reg_mr_iova2)(struct ibv_pd *, void *, size_t, uint64_t, unsigned int);
static int (*dereg_mr)(struct ibv_mr *);

static void *library;
static int versioned = 1;

static void bind(void *pointer, const char *name, const char *version)
{
	void *function = versioned ? dlvsym(library, name, version) : dlsym(library, name);
	if (!function) {
		fprintf(stderr, "dlopen_verbs: %s\n", dlerror());
		exit(1);
	}
	memcpy(pointer, &function, sizeof function);
}

static int work(struct ibv_pd *pd, int index)
{
	static char memory[65536];
	const int access = IBV_ACCESS_LOCAL_WRITE;

	for (int i = 0; i < 50; i++) {
		struct ibv_mr *mr = i % 2 ? reg_mr(pd, memory, sizeof memory, access)
					  : reg_mr_iova2(pd, memory, sizeof memory,
							 (uintptr_t)memory, (unsigned int)access);
		const char *field = mr ? wrong_field(mr, pd, memory, sizeof memory) : strerror(errno);
		if (field || dereg_mr(mr)) {
			fprintf(stderr, "dlopen_verbs: thread %d, call %d: %s\n", index, i,
				field ? field : "ibv_dereg_mr failed");
			return 1;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "-s")) {
		versioned = 0;
		argc--;
		argv++;
	}
	int threads = argc > 1 ? atoi(argv[1]) : 8;
	if (threads < 1) {
		fprintf(stderr, "usage: dlopen_verbs [-s] [threads]\n");
		return 2;
	}
	library = dlopen("libibverbs.so.1", RTLD_LOCAL | RTLD_NOW);
	if (!library) {
		fprintf(stderr, "dlopen_verbs: %s\n", dlerror());
		return 1;
	}
	bind(&verbs.get_device_list, "ibv_get_device_list", "IBVERBS_1.1");
	bind(&verbs.free_device_list, "ibv_free_device_list", "IBVERBS_1.1");
	bind(&verbs.open_device, "ibv_open_device", "IBVERBS_1.1");
	bind(&verbs.close_device, "ibv_close_device", "IBVERBS_1.1");
	bind(&verbs.alloc_pd, "ibv_alloc_pd", "IBVERBS_1.1");
	bind(&verbs.dealloc_pd, "ibv_dealloc_pd", "IBVERBS_1.1");
	bind(&reg_mr, "ibv_reg_mr", "IBVERBS_1.1");
	bind(&reg_mr_iova2, "ibv_reg_mr_iova2", "IBVERBS_1.8");
	bind(&dereg_mr, "ibv_dereg_mr", "IBVERBS_1.1");

	int failed = run_together(&verbs, threads, work);
	printf("dlopen_verbs: %d of %d threads failed\n", failed, threads);
	return failed != 0;
}
