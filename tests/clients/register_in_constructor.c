/*
 * A shared library whose constructor registers memory: before main, and before
 * the constructors of whatever was loaded ahead of it. See registered_before_main.c.
 */
#include "run_together.h"

int registration_outcome(void);

static struct ibv_pd *pd;
static struct ibv_mr *mr;
static char memory[8192];

__attribute__((constructor)) static void register_in_constructor(void)
{
	pd = open_pd(linked_verbs(), 0);
	if (pd)
		mr = ibv_reg_mr(pd, memory, sizeof memory, IBV_ACCESS_LOCAL_WRITE);
}

/* 0, or which step failed. */
int registration_outcome(void)
{
	if (!pd)
		return 1;
	if (!mr || wrong_field(mr, pd, memory, sizeof memory))
		return 2;
	if (ibv_dereg_mr(mr))
		return 3;
	return close_pd(linked_verbs(), pd) ? 4 : 0;
}
