/*
 * Four threads, each on a device of its own, register memory that the kernel cannot pin: memory that
 * allows no access, and a region whose last page does not. Each registration must fail with
 * EFAULT.
 */
#include "run_together.h"

#include <sys/mman.h>
#include <unistd.h>

#define ROUNDS 50
#define LENGTH (4 << 20)

static int fails(struct ibv_pd *pd, void *memory)
{
	errno = 0;
	return !ibv_reg_mr(pd, memory, LENGTH, IBV_ACCESS_LOCAL_WRITE) && errno == EFAULT;
}

static int work(struct ibv_pd *pd, int index)
{
	char *memory = mmap(NULL, 2 * LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *unreadable = memory + LENGTH;

	if (memory == MAP_FAILED || mprotect(unreadable, LENGTH, PROT_NONE))
		return 1;
	for (int round = 0; round < ROUNDS; round++) {
		if (!fails(pd, unreadable) || !fails(pd, memory + sysconf(_SC_PAGESIZE))) {
			fprintf(stderr, "unpinnable: thread %d, round %d: not EFAULT\n", index, round);
			return 1;
		}
	}
	munmap(memory, 2 * LENGTH);
	return 0;
}

int main(void)
{
	int failed = run_together(linked_verbs(), 4, work);

	printf("threads that failed: %d\n", failed);
	return failed != 0;
}
