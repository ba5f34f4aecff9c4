/*
 * pairs CALL CALL [host]
 *
 * Two threads, each on a device of its own, make the calls at the same time, fifty times: `reg` (only
 * registrations), `dereg` (only deregistrations) or `free`. The memory allows no access, as GPU memory
 * does; with `host`, it is host memory.
 */
#include "run_together.h"

#include <sys/ioctl.h>
#include <sys/mman.h>

#define NV_ESC_RM_FREE 0xC0104629
#define CALLS 50
#define LENGTH 4096

static char **calls;
static int protection;
static pthread_barrier_t step;

static int registers(struct ibv_pd *pd, void *memory, struct ibv_mr **mrs)
{
	for (int i = 0; i < CALLS; i++)
		if (!(mrs[i] = ibv_reg_mr(pd, memory, LENGTH, IBV_ACCESS_LOCAL_WRITE)))
			return 1;
	return 0;
}

static int deregisters(struct ibv_mr **mrs)
{
	for (int i = 0; i < CALLS; i++)
		if (ibv_dereg_mr(mrs[i]))
			return 1;
	return 0;
}

static int frees(void)
{
	for (int i = 0; i < CALLS; i++)
		if (ioctl(-1, NV_ESC_RM_FREE, NULL))
			return 1;
	return 0;
}

static int work(struct ibv_pd *pd, int index)
{
	const char *call = calls[index];
	struct ibv_mr *mrs[CALLS];
	void *memory = mmap(NULL, LENGTH, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int failed = memory == MAP_FAILED;

	/* One after the other: first what a deregistration needs, at last what a registration leaves behind. */
	for (int turn = 0; turn < 2; turn++) {
		if (turn == index && !strcmp(call, "dereg"))
			failed |= registers(pd, memory, mrs);
		pthread_barrier_wait(&step);
	}
	failed |= !strcmp(call, "reg") ? registers(pd, memory, mrs) : !strcmp(call, "dereg") ? deregisters(mrs) : frees();
	for (int turn = 0; turn < 2; turn++) {
		pthread_barrier_wait(&step);
		if (turn == index && !strcmp(call, "reg"))
			failed |= deregisters(mrs);
	}
	return failed;
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	calls = argv + 1;
	protection = argc > 3 ? PROT_READ | PROT_WRITE : PROT_NONE;
	pthread_barrier_init(&step, NULL, 2);
	return run_together(linked_verbs(), 2, work);
}
