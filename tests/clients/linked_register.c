/*
 * Registers in eight threads at once, and prints through which hooks: as part of an executable, or as a shared object
 * for linked_register_main.c. Calls only mrlock_active() of mrlock.
 *
 * Code that is not position-independent takes the addresses of hooked functions: the executable then has undefined symbols
 * of these names with a value.
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
