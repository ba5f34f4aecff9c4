/*
 * A libcuda.so.1 in software, for as much of the driver API as `mrlock stress --gpu` needs.
 * Its memory is mapped without any permission, so the fake libibverbs treats it as GPU
 * memory. It refuses the calls that a real driver would refuse.
 *
 * Read at cuInit:
 *   FAKE_CUDA_GPUS     number of GPUs (default 2)
 *   FAKE_CUDA_WITNESS  file for the number of allocations and frees, written at exit
 */
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, INVALID_VALUE = 1, INVALID_DEVICE = 101, INVALID_CONTEXT = 201 };

#define EXPORT __attribute__((visibility("default")))
#define MAX_GPUS 8
#define MAX_BLOCKS 4096

static int gpus = -1;
static char contexts[MAX_GPUS];
static __thread char *current;
static atomic_int allocations, frees;

/* A block is free if its size is 0, and being changed if its size is 1. */
static struct {
	atomic_size_t size;
	void *address;
} blocks[MAX_BLOCKS];

EXPORT int cuInit(unsigned int flags)
{
	const char *wanted = getenv("FAKE_CUDA_GPUS");

	if (flags)
		return INVALID_VALUE;
	gpus = wanted ? atoi(wanted) : 2;
	return gpus < 0 || gpus > MAX_GPUS ? INVALID_VALUE : 0;
}

EXPORT int cuDeviceGetCount(int *count)
{
	if (gpus < 0)
		return NOT_INITIALIZED;
	*count = gpus;
	return 0;
}

EXPORT int cuDevicePrimaryCtxRetain(void **context, int gpu)
{
	if (gpu < 0 || gpu >= gpus)
		return INVALID_DEVICE;
	*context = &contexts[gpu];
	return 0;
}

EXPORT int cuCtxSetCurrent(void *context)
{
	current = context;
	return 0;
}

EXPORT int cuMemAlloc_v2(uint64_t *address, size_t size)
{
	if (!current)
		return INVALID_CONTEXT;
	void *memory = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return OUT_OF_MEMORY;
	for (int i = 0; i < MAX_BLOCKS; i++) {
		size_t none = 0;
		if (!atomic_compare_exchange_strong(&blocks[i].size, &none, 1))
			continue;
		blocks[i].address = memory;
		atomic_store(&blocks[i].size, size);
		atomic_fetch_add(&allocations, 1);
		*address = (uintptr_t)memory;
		return 0;
	}
	munmap(memory, size);
	return OUT_OF_MEMORY;
}

EXPORT int cuMemFree_v2(uint64_t address)
{
	if (!current)
		return INVALID_CONTEXT;
	for (int i = 0; i < MAX_BLOCKS; i++) {
		size_t size = atomic_load(&blocks[i].size);
		if (size < 2 || blocks[i].address != (void *)address ||
		    !atomic_compare_exchange_strong(&blocks[i].size, &size, 1))
			continue;
		munmap((void *)address, size);
		atomic_store(&blocks[i].size, 0);
		atomic_fetch_add(&frees, 1);
		return 0;
	}
	return INVALID_VALUE;
}

EXPORT int cuGetErrorName(int error, const char **name)
{
	*name = error == INVALID_VALUE	   ? "CUDA_ERROR_INVALID_VALUE"
		: error == OUT_OF_MEMORY   ? "CUDA_ERROR_OUT_OF_MEMORY"
		: error == NOT_INITIALIZED ? "CUDA_ERROR_NOT_INITIALIZED"
		: error == INVALID_DEVICE  ? "CUDA_ERROR_INVALID_DEVICE"
		: error == INVALID_CONTEXT ? "CUDA_ERROR_INVALID_CONTEXT"
					   : NULL;
	return *name ? 0 : INVALID_VALUE;
}

__attribute__((destructor)) static void unload(void)
{
	const char *witness = getenv("FAKE_CUDA_WITNESS");
	FILE *file = witness ? fopen(witness, "w") : NULL;

	if (file) {
		fprintf(file, "%d allocations, %d frees\n", allocations, frees);
		fclose(file);
	}
}
