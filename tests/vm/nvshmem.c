/*
 * nvshmem LIBRARY
 *
 * NVSHMEM's ibrc transport takes libibverbs' functions by dlsym, and keeps them in a table. This program has the transport fill its
 * table, and registers memory with what is in there, in several threads at once. (What the transport itself does beyond that asks
 * CUDA about the memory, and fails without a GPU.) The function that fills the table is a local symbol of
 * nvshmem_transport_ibrc.so: the build gives its address as a macro of its name.
 */
#include <infiniband/verbs.h>
#undef ibv_reg_mr
#undef ibv_reg_mr_iova
#include "../clients/run_together.h"
#include <dlfcn.h>
#include <link.h>

enum { THREADS = 8, ROUNDS = 20, SIZE = 1 << 20 };

static void *libibverbs;
static void *table[256]; /* larger than NVSHMEM's */

static struct ibv_mr *(*reg_mr)(struct ibv_pd *, void *, size_t, int);
static struct ibv_mr *(*reg_mr_iova)(struct ibv_pd *, void *, size_t, uint64_t, int);
static int (*dereg_mr)(struct ibv_mr *);

/* The function that libibverbs has under the name. */
static void *of_libibverbs(const char *name)
{
	void *function = dlsym(libibverbs, name);
	if (!function) {
		fprintf(stderr, "nvshmem: %s\n", dlerror());
		exit(1);
	}
	return function;
}

/* The same, if it is in the table. */
static void *of_table(const char *name)
{
	void *function = of_libibverbs(name);
	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		if (table[i] == function)
			return function;
	fprintf(stderr, "nvshmem: its table lacks %s\n", name);
	exit(1);
}

static int work(struct ibv_pd *pd, int index)
{
	const int access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ;
	char *memory = malloc(SIZE);

	for (int i = 0; i < ROUNDS; i++) {
		struct ibv_mr *mr = i % 2 ? reg_mr(pd, memory, SIZE, access)
					  : reg_mr_iova(pd, memory, SIZE, (uintptr_t)memory, access);
		const char *field = mr ? wrong_field(mr, pd, memory, SIZE) : strerror(errno);
		if (field || dereg_mr(mr)) {
			fprintf(stderr, "nvshmem: thread %d, call %d: %s\n", index, i, field ? field : "ibv_dereg_mr");
			return 1;
		}
	}
	free(memory);
	return 0;
}

int main(int argc, char **argv)
{
	struct link_map *library = argc == 2 ? dlopen(argv[1], RTLD_LOCAL | RTLD_NOW) : NULL;
	if (!library) {
		fprintf(stderr, "nvshmem: %s\n", argc == 2 ? dlerror() : "one argument: nvshmem_transport_ibrc.so");
		return 2;
	}
	int (*fill)(void **handle, void **table, int log) = (void *)(library->l_addr + nvshmemt_ibv_ftable_init);
	int result = fill(&libibverbs, table, 0);
	if (result || !libibverbs) {
		fprintf(stderr, "nvshmem: nvshmemt_ibv_ftable_init: %d\n", result);
		return 1;
	}
	reg_mr = of_table("ibv_reg_mr");
	reg_mr_iova = of_table("ibv_reg_mr_iova");
	dereg_mr = of_table("ibv_dereg_mr");
	struct opener verbs = {
		.get_device_list = of_table("ibv_get_device_list"),
		.free_device_list = of_libibverbs("ibv_free_device_list"),
		.open_device = of_table("ibv_open_device"),
		.close_device = of_table("ibv_close_device"),
		.alloc_pd = of_table("ibv_alloc_pd"),
		.dealloc_pd = of_table("ibv_dealloc_pd"),
	};
	int failed = run_together(&verbs, THREADS, work);
	printf("%d of %d threads failed\n", failed, THREADS);
	return failed != 0;
}
