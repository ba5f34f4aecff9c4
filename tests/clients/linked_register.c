/*
 * Registers in eight threads at once, and prints through which hooks: as part of an executable, or as a shared object
 * for linked_register_main.c. Knows of mrlock only to ask it.
 *
 * Where code is not position-independent, it takes the addresses of what is hooked: an executable then has symbols of these
 * names that are no definitions.
 */
#define MRLOCK_WEAK
#include "run_together.h"

#include <dlfcn.h>
#include <mrlock.h>
#include <sys/ioctl.h>

#ifndef __PIC__
static void (*volatile taken[2])(void);
#endif

static int work(struct ibv_pd *pd, int index)
{
	static char memory[65536];

	(void)index;
	for (int i = 0; i < 5; i++) {
		struct ibv_mr *mr = ibv_reg_mr(pd, memory, sizeof memory, IBV_ACCESS_LOCAL_WRITE);
		if (!mr || ibv_dereg_mr(mr))
			return 1;
	}
	return 0;
}

int linked_run(void);
int linked_run(void)
{
#ifndef __PIC__
	taken[0] = (void (*)(void))ibv_reg_mr;
	taken[1] = (void (*)(void))ioctl;
#endif
	printf("active %d\n", mrlock_active());
	if (dlerror())
		return 2;
	return run_together(linked_verbs(), 8, work);
}
