/*
 * A library that simulates the NVIDIA driver, preloaded behind mrlock: its ioctl() handles
 * NV_ESC_RM_FREE with the fake libibverbs' fake_gpu_free(), which kills the process if it overlaps
 * a registration of GPU memory.
 */
#define _GNU_SOURCE
#include "gpu_free_ioctl.h"

void fake_gpu_free(void);

static void free_gpu_memory(void)
{
	fake_gpu_free();
}
