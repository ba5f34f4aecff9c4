/*
 * memory bare|any|device
 *
 * Prints, for every kind of memory of a CUDA program, whether the kernel can read a byte of
 * it (then it can also pin it in the ordinary way), and whether its registration and
 * deregistration take mrlock's lock. Exit status 0 if they do for GPU memory and for
 * addresses without memory (device), or for all (any), or if there is no mrlock (bare).
 */
#define _GNU_SOURCE
#define MRLOCK_WEAK
#include "../clients/run_together.h"
#include "cuda.h"

#include <mrlock.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define SIZE (4u << 20)

static void *from_mmap(int protection)
{
	void *memory = mmap(NULL, SIZE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return memory;
}

static void *allocated(void) { return allocate_on_gpu(SIZE); }

static void *freed(void)
{
	void *memory = allocate_on_gpu(SIZE);
	CUDA(cuMemFree((device_pointer)memory));
	return memory;
}

static void *allocated_async(void)
{
	device_pointer address;
	CUDA(cuMemAllocAsync(&address, SIZE, NULL));
	CUDA(cuCtxSynchronize());
	return (void *)address;
}

static void *reserved(void)
{
	device_pointer address;
	CUDA(cuMemAddressReserve(&address, SIZE, 0, 0, 0));
	return (void *)address;
}

static void *mapped(void)
{
	const struct location here = {CU_MEM_LOCATION_TYPE_DEVICE, cuda_device};
	const struct allocation properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
					      .location = here};
	const struct access access = {here, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
	device_pointer address = (device_pointer)reserved();
	unsigned long long handle;
	CUDA(cuMemCreate(&handle, SIZE, &properties, 0));
	CUDA(cuMemMap(address, SIZE, 0, handle, 0));
	CUDA(cuMemSetAccess(address, SIZE, &access, 1));
	return (void *)address;
}

static void *managed(void)
{
	device_pointer address;
	CUDA(cuMemAllocManaged(&address, SIZE, CU_MEM_ATTACH_GLOBAL));
	return (void *)address;
}

static void *managed_on_gpu(void)
{
	void *memory = managed();
	CUDA(cuMemsetD8((device_pointer)memory, 1, SIZE));
	CUDA(cuCtxSynchronize());
	return memory;
}

static void *host_allocated(void)
{
	void *memory;
	CUDA(cuMemHostAlloc(&memory, SIZE, 0));
	return memory;
}

static void *from_malloc(void)
{
	void *memory = malloc(SIZE);
	if (!memory) {
		perror("malloc");
		exit(1);
	}
	return memset(memory, 1, SIZE);
}

static void *host_registered(void)
{
	void *memory = from_malloc();
	CUDA(cuMemHostRegister(memory, SIZE, 0));
	return memory;
}

static void *untouched(void) { return from_mmap(PROT_READ | PROT_WRITE); }
static void *read_only(void) { return from_mmap(PROT_READ); }
static void *no_access(void) { return from_mmap(PROT_NONE); }

static const struct kind {
	const char *name;
	void *(*make)(void);
	enum { HOST, GPU, NONE } what; /* NONE: whether it can be registered does not matter */
} kinds[] = {
	{"cuMemAlloc", allocated, GPU},
	{"cuMemAllocAsync", allocated_async, GPU},
	{"cuMemMap", mapped, GPU},
	{"cuMemAddressReserve, nothing mapped", reserved, NONE},
	{"cuMemFree, what was there", freed, NONE},
	{"cuMemAllocManaged, untouched", managed, HOST},
	{"cuMemAllocManaged, on the GPU", managed_on_gpu, HOST},
	{"cuMemHostAlloc", host_allocated, HOST},
	{"cuMemHostRegister", host_registered, HOST},
	{"malloc", from_malloc, HOST},
	{"mmap, untouched", untouched, HOST},
	{"mmap, PROT_READ", read_only, HOST},
	{"mmap, PROT_NONE", no_access, NONE},
};

/* 0 if the kernel can read a byte there, or the error number. */
static int read_error(void *address)
{
	char byte;
	struct iovec to = {&byte, 1}, from = {address, 1};
	return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1 ? 0 : errno;
}

/* How many calls have taken the lock. */
static uint64_t serialized(void)
{
	struct mrlock_snapshot all = {.calls = 0};
	mrlock_stats(MRLOCK_ALL, &all, sizeof all);
	return all.calls;
}

int main(int argc, char **argv)
{
	const char *memory = argc == 2 ? argv[1] : "";
	const bool any = !strcmp(memory, "any"), device = !strcmp(memory, "device");
	char card[128];
	int wrong = 0;

	if (!any && !device && strcmp(memory, "bare")) {
		fprintf(stderr, "usage: memory bare|any|device\n");
		return 2;
	}
	if ((any || device) != !!*mrlock_version()) {
		fprintf(stderr, "memory %s: mrlock is %s\n", memory, any || device ? "missing" : "here");
		return 2;
	}
	open_cuda();
	CUDA(cuDeviceGetName(card, sizeof card, cuda_device));
	printf("%-36s%-12s%s\n", card, "readable", "calls that take the lock");
	struct ibv_pd *pd = open_pd(linked_verbs(), 0);
	if (!pd)
		return 1;
	for (const struct kind *kind = kinds; kind < kinds + sizeof kinds / sizeof *kinds; kind++) {
		/* Each check gets its own memory, because a check may move pages. */
		int error = read_error(kind->make());
		void *address = kind->make();
		uint64_t before = serialized();
		struct ibv_mr *mr = ibv_reg_mr(pd, address, SIZE, 0);
		int calls = 1 + (mr && !ibv_dereg_mr(mr));
		uint64_t taken = serialized() - before;
		bool takes = any || (device && kind->what != HOST);
		bool right = error == (kind->what == HOST ? 0 : EFAULT) &&
			     taken == (takes ? (uint64_t)calls : 0) &&
			     (calls == 2 || kind->what == NONE);
		printf("%-36s%-12s%lu of %d%s\n", kind->name, error ? strerrorname_np(error) : "yes",
		       (unsigned long)taken, calls, right ? "" : " WRONG");
		wrong += !right;
	}
	return wrong > 0;
}
