/*
 * A preload library that registers in its constructor and destructor. Listed after mrlock in
 * LD_PRELOAD, its constructor runs before mrlock's, and its destructor after. It registers
 * within a section of mrlock_lock(), if that is defined.
 */
#define MRLOCK_WEAK
#include "run_together.h"

#include <mrlock.h>
#include <unistd.h>

static struct ibv_pd *pd;
static char memory[12345];

static void register_here(const char *where)
{
	int refused = mrlock_lock();
	struct ibv_mr *mr = pd ? ibv_reg_mr(pd, memory, sizeof memory, IBV_ACCESS_LOCAL_WRITE) : NULL;
	int failed = !mr || ibv_dereg_mr(mr);

	refused |= mrlock_unlock();
	dprintf(1, "registering_preload: %s: %s\n", where, failed || refused ? "failed" : "registered");
}

__attribute__((constructor)) static void constructor(void)
{
	pd = open_pd(linked_verbs(), 0);
	register_here("constructor");
}

__attribute__((destructor)) static void destructor(void) { register_here("destructor"); }
