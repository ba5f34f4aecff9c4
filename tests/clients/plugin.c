/*
 * A shared object linked to libibverbs, for a process that is not (see plugin_host.c),
 * like a Python extension module. Its threads register memory at once.
 */
#include "plugin.h"
#include "run_together.h"

static unsigned int served_by;

static int work(struct ibv_pd *pd, int index)
{
	static char memory[65536];

	for (int i = 0; i < 50; i++) {
		struct ibv_mr *mr = ibv_reg_mr(pd, memory, sizeof memory, IBV_ACCESS_LOCAL_WRITE);
		const char *field = mr ? wrong_field(mr, pd, memory, sizeof memory) : strerror(errno);
		if (!field && !index)
			served_by = mr->lkey >> 28; /* the fake libibverbs tags its keys */
		if (field || ibv_dereg_mr(mr)) {
			fprintf(stderr, "plugin: thread %d, call %d: %s\n", index, i,
				field ? field : "ibv_dereg_mr failed");
			return 1;
		}
	}
	return 0;
}

plugin_run_function plugin_run;
int plugin_run(int threads) { return run_together(linked_verbs(), threads, work); }

plugin_copy_function plugin_copy;
unsigned int plugin_copy(void) { return served_by; }
