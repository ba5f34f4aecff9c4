/*
 * nccl LIBRARY
 *
 * Calls NCCL's own code for memory registration, its wrap_ibv_* functions, which take libibverbs' functions by dlvsym. They are
 * local symbols of libnccl.so.2: the build gives the address of each as a macro of its name. Its threads register memory at once.
 */
#include "../clients/run_together.h"
#include <dlfcn.h>
#include <link.h>

enum { THREADS = 8, ROUNDS = 20, SIZE = 1 << 20, SUCCESS = 0 };

static char *base; /* where the library is loaded */
#define OF_NCCL(name, ...) ((int (*)(__VA_ARGS__))(base + (name)))

static struct ibv_device **get_device_list(int *count)
{
	struct ibv_device **list;
	return OF_NCCL(wrap_ibv_get_device_list, struct ibv_device ***, int *)(&list, count) == SUCCESS ? list : NULL;
}

static void free_device_list(struct ibv_device **list)
{
	OF_NCCL(wrap_ibv_free_device_list, struct ibv_device **)(list);
}

static struct ibv_context *open_device(struct ibv_device *device)
{
	struct ibv_context *context;
	return OF_NCCL(wrap_ibv_open_device, struct ibv_context **, struct ibv_device *)(&context, device) == SUCCESS ? context
														       : NULL;
}

static int close_device(struct ibv_context *context)
{
	return OF_NCCL(wrap_ibv_close_device, struct ibv_context *)(context);
}

static struct ibv_pd *alloc_pd(struct ibv_context *context)
{
	struct ibv_pd *pd;
	return OF_NCCL(wrap_ibv_alloc_pd, struct ibv_pd **, struct ibv_context *)(&pd, context) == SUCCESS ? pd : NULL;
}

static int dealloc_pd(struct ibv_pd *pd)
{
	return OF_NCCL(wrap_ibv_dealloc_pd, struct ibv_pd *)(pd);
}

static int work(struct ibv_pd *pd, int index)
{
	const int access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ;
	char *memory = malloc(SIZE);

	for (int i = 0; i < ROUNDS; i++) {
		struct ibv_mr *mr = NULL;
		int result = i % 2 ? OF_NCCL(wrap_ibv_reg_mr, struct ibv_mr **, struct ibv_pd *, void *, size_t,
					     int)(&mr, pd, memory, SIZE, access)
				   : OF_NCCL(wrap_ibv_reg_mr_iova2, struct ibv_mr **, struct ibv_pd *, void *, size_t, uint64_t,
					     int)(&mr, pd, memory, SIZE, (uintptr_t)memory, access);
		const char *field = result == SUCCESS ? wrong_field(mr, pd, memory, SIZE) : "result";
		if (field || OF_NCCL(wrap_ibv_dereg_mr, struct ibv_mr *)(mr) != SUCCESS) {
			fprintf(stderr, "nccl: thread %d, call %d: %s\n", index, i, field ? field : "wrap_ibv_dereg_mr");
			return 1;
		}
	}
	free(memory);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct opener verbs = {get_device_list, free_device_list, open_device, close_device, alloc_pd, dealloc_pd};
	struct link_map *library = argc == 2 ? dlopen(argv[1], RTLD_LOCAL | RTLD_NOW) : NULL;

	if (!library) {
		fprintf(stderr, "nccl: %s\n", argc == 2 ? dlerror() : "one argument: libnccl.so.2");
		return 2;
	}
	base = (char *)library->l_addr;
	int result = OF_NCCL(wrap_ibv_symbols, void)();
	if (result != SUCCESS) {
		fprintf(stderr, "nccl: wrap_ibv_symbols: %d\n", result);
		return 1;
	}
	int failed = run_together(&verbs, THREADS, work);
	printf("%d of %d threads failed\n", failed, THREADS);
	return failed != 0;
}
