/*
 * Two threads register memory, and two free GPU memory as libcuda does. With -s, the free is
 * called by one thread while the other is between mrlock_lock() and mrlock_unlock(), and
 * waits for it there, as a thread does that calls CUDA.
 */
#define MRLOCK_WEAK
#include "run_together.h"

#include <mrlock.h>
#include <string.h>
#include <sys/ioctl.h>

#define NV_ESC_RM_FREE 0xC0104629

static int work(struct ibv_pd *pd, int index)
{
	static char memory[4][4096];

	for (int i = 0; i < 100; i++) {
		if (index % 2) {
			if (ioctl(-1, NV_ESC_RM_FREE, memory))
				return 1;
			continue;
		}
		struct ibv_mr *mr = ibv_reg_mr(pd, memory[index], sizeof memory[index], IBV_ACCESS_LOCAL_WRITE);
		if (!mr || ibv_dereg_mr(mr))
			return 1;
	}
	return 0;
}

static void *free_once(void *unused)
{
	(void)unused;
	ioctl(-1, NV_ESC_RM_FREE, NULL);
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "-s")) {
		pthread_t thread;
		if (mrlock_lock() || pthread_create(&thread, NULL, free_once, NULL) || pthread_join(thread, NULL))
			return 1;
		return mrlock_unlock();
	}
	return run_together(linked_verbs(), 4, work);
}
