/*
 * The part of CUDA's driver API that the GPU tests use. libcuda is found at run time:
 * neither CUDA's headers nor its toolkit are needed to build or to run them.
 */
#ifndef CUDA_H
#define CUDA_H

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* <cuda.h>: the types, and the values of enumerations, that are passed below. */
typedef uintptr_t device_pointer;
struct location {
	int type;
	int id;
};
struct allocation {
	int type;
	int handle_types;
	struct location location;
	void *win32_metadata;
	uint8_t flags[8];
};
struct access {
	struct location location;
	int flags;
};
enum {
	CU_MEM_LOCATION_TYPE_DEVICE = 1,
	CU_MEM_ALLOCATION_TYPE_PINNED = 1,
	CU_MEM_ACCESS_FLAGS_PROT_READWRITE = 3,
	CU_MEM_ATTACH_GLOBAL = 1,
};

/* Function, name of its symbol, parameters. */
#define CUDA_FUNCTIONS(F)                                                                          \
	F(cuInit, "cuInit", (unsigned int flags))                                                  \
	F(cuDeviceGet, "cuDeviceGet", (int *device, int ordinal))                                  \
	F(cuDeviceGetName, "cuDeviceGetName", (char *name, int size, int device))                  \
	F(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", (void **context, int device))      \
	F(cuCtxSetCurrent, "cuCtxSetCurrent", (void *context))                                     \
	F(cuCtxSynchronize, "cuCtxSynchronize", (void))                                            \
	F(cuMemAlloc, "cuMemAlloc_v2", (device_pointer * address, size_t size))                    \
	F(cuMemFree, "cuMemFree_v2", (device_pointer address))                                     \
	F(cuMemAllocAsync, "cuMemAllocAsync",                                                      \
	  (device_pointer * address, size_t size, void *stream))                                   \
	F(cuMemAllocManaged, "cuMemAllocManaged",                                                  \
	  (device_pointer * address, size_t size, unsigned int flags))                             \
	F(cuMemsetD8, "cuMemsetD8_v2", (device_pointer address, unsigned char byte, size_t size))  \
	F(cuMemHostAlloc, "cuMemHostAlloc", (void **address, size_t size, unsigned int flags))     \
	F(cuMemHostRegister, "cuMemHostRegister_v2",                                               \
	  (void *address, size_t size, unsigned int flags))                                        \
	F(cuMemAddressReserve, "cuMemAddressReserve",                                              \
	  (device_pointer * address, size_t size, size_t alignment, device_pointer hint,           \
	   unsigned long long flags))                                                              \
	F(cuMemCreate, "cuMemCreate",                                                              \
	  (unsigned long long *handle, size_t size, const struct allocation *properties,           \
	   unsigned long long flags))                                                              \
	F(cuMemMap, "cuMemMap",                                                                    \
	  (device_pointer address, size_t size, size_t offset, unsigned long long handle,          \
	   unsigned long long flags))                                                              \
	F(cuMemSetAccess, "cuMemSetAccess",                                                        \
	  (device_pointer address, size_t size, const struct access *access, size_t count))

#define CUDA_POINTER(function, symbol, parameters) static int(*function) parameters;
CUDA_FUNCTIONS(CUDA_POINTER)

/* Ends the program unless `call` of CUDA succeeds. */
#define CUDA(call)                                                                                 \
	do {                                                                                       \
		int error = (call);                                                                \
		if (error) {                                                                       \
			fprintf(stderr, "%s: CUDA's error %d\n", #call, error);                    \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

/* Where the memory of these tests is: the first GPU. */
static int cuda_device;
static void *cuda_context;

static inline void *cuda_symbol(void *library, const char *symbol)
{
	void *function = dlsym(library, symbol);
	if (!function) {
		fprintf(stderr, "libcuda.so.1 has no %s: it is too old for this test\n", symbol);
		exit(1);
	}
	return function;
}

/* Makes cuda_context current in the calling thread; every other thread has to do so itself. */
static inline void open_cuda(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW);
	if (!library) {
		fprintf(stderr, "%s: this test needs a machine with an NVIDIA GPU and its driver\n", dlerror());
		exit(1);
	}
#define CUDA_LOOK_UP(function, symbol, parameters)                                                 \
	*(void **)&function = cuda_symbol(library, symbol);
	CUDA_FUNCTIONS(CUDA_LOOK_UP)

	CUDA(cuInit(0));
	CUDA(cuDeviceGet(&cuda_device, 0));
	CUDA(cuDevicePrimaryCtxRetain(&cuda_context, cuda_device));
	CUDA(cuCtxSetCurrent(cuda_context));
}

static inline void *allocate_on_gpu(size_t size)
{
	device_pointer address;
	CUDA(cuMemAlloc(&address, size));
	return (void *)address;
}

#endif
