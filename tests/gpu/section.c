/*
 * Calls CUDA between mrlock_lock() and mrlock_unlock() until another thread has freed GPU
 * memory often. libcuda holds a mutex of its own while it frees, which every call of CUDA
 * needs: a free that waited for the section would never end. Exit status 0: all ended.
 */
#define MRLOCK_WEAK
#include "cuda.h"

#include <mrlock.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#define SIZE (4u << 20) /* large enough that cuMemFree gives it back to the driver at once */

enum { FREES = 1000, SECONDS_BEFORE_IT_HANGS = 30 };

static atomic_bool done;

static void allocate_and_free(void) { CUDA(cuMemFree((device_pointer)allocate_on_gpu(SIZE))); }

static void *free_often(void *unused)
{
	CUDA(cuCtxSetCurrent(cuda_context));
	for (int i = 0; i < FREES; i++)
		allocate_and_free();
	atomic_store(&done, true);
	return unused;
}

int main(void)
{
	pthread_t thread;
	unsigned long inside = 0;

	if (!*mrlock_version()) {
		fprintf(stderr, "section: mrlock is missing\n");
		return 2;
	}
	open_cuda();
	alarm(SECONDS_BEFORE_IT_HANGS);
	if (mrlock_lock() || pthread_create(&thread, NULL, free_often, NULL))
		return 1;
	do {
		allocate_and_free();
		inside++;
	} while (!atomic_load(&done));
	if (mrlock_unlock() || pthread_join(thread, NULL))
		return 1;
	printf("%d frees while another thread was in a section and freed %lu times\n", FREES, inside);
	return 0;
}
