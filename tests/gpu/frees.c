/*
 * frees gpu|host meet|apart
 *
 * Two threads register and deregister memory of that kind while four others allocate
 * and free GPU memory. Exit status 0: witness.so saw registrations and frees, and it saw
 * them overlap (meet), or never overlap (apart), as the second argument says.
 */
#define _GNU_SOURCE
#include "../clients/run_together.h"
#include "cuda.h"
#include "witness.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#define SIZE (4u << 20) /* large enough that cuMemFree gives it back to the driver at once */

enum { REGISTERING = 2, FREEING = 4, ROUNDS = 200 };

static bool on_gpu;
static atomic_int registering = REGISTERING;

static void register_often(struct ibv_pd *pd)
{
	void *memory = on_gpu ? allocate_on_gpu(SIZE) : calloc(1, SIZE);

	for (int round = 0; round < ROUNDS; round++) {
		struct ibv_mr *mr = ibv_reg_mr(pd, memory, SIZE, IBV_ACCESS_LOCAL_WRITE);
		if (!mr || ibv_dereg_mr(mr)) {
			perror(mr ? "ibv_dereg_mr" : "ibv_reg_mr");
			exit(1);
		}
	}
}

static int work(struct ibv_pd *pd, int index)
{
	CUDA(cuCtxSetCurrent(cuda_context));
	if (index < REGISTERING) {
		register_often(pd);
		atomic_fetch_sub(&registering, 1);
		return 0;
	}
	while (atomic_load(&registering))
		CUDA(cuMemFree((device_pointer)allocate_on_gpu(SIZE)));
	return 0;
}

static double seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: frees gpu|host meet|apart\n");
		return 2;
	}
	on_gpu = !strcmp(argv[1], "gpu");
	bool meet = !strcmp(argv[2], "meet");
	const struct witness *witness = dlsym(RTLD_DEFAULT, "witness");
	if (!witness) {
		fprintf(stderr, "frees: witness.so is not preloaded\n");
		return 2;
	}
	open_cuda();
	double since = seconds();
	if (run_together(linked_verbs(), REGISTERING + FREEING, work))
		return 1;
	double took = seconds() - since;
	unsigned long meetings = atomic_load(&witness->meetings);
	printf("%lu registrations and deregistrations, %lu frees, met %lu times, %.2f s\n",
	       atomic_load(&witness->registrations), atomic_load(&witness->frees), meetings, took);
	if (atomic_load(&witness->registrations) != 2 * REGISTERING * ROUNDS ||
	    atomic_load(&witness->frees) < FREEING) {
		printf("WRONG: the witness did not see all of them\n");
		return 1;
	}
	if ((meetings > 0) != meet) {
		printf("WRONG: they should %s\n", meet ? "meet" : "never meet");
		return 1;
	}
	return 0;
}
