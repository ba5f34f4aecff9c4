/*
 * Registers and deregisters regions of host memory, of GPU memory (which allows no access), and of
 * both, and prints how many of these calls took the lock.
 */
#define MRLOCK_WEAK
#include "run_together.h"

#include <mrlock.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

static struct ibv_pd *pd;
static long page;

static unsigned long long calls_with_lock(void)
{
	struct mrlock_snapshot all = {0};
	return mrlock_stats(MRLOCK_ALL, &all, sizeof all) ? 0 : all.calls;
}

static void show(const char *what, void *memory, size_t length, int access)
{
	unsigned long long before = calls_with_lock();
	struct ibv_mr *mr = ibv_reg_mr(pd, memory, length, access);
	int calls = 1 + (mr && !ibv_dereg_mr(mr));

	printf("%s: %llu of %d\n", what, calls_with_lock() - before, calls);
}

static void show_moved(const char *what, void *from, void *to)
{
	struct ibv_mr *mr = ibv_reg_mr(pd, from, page, IBV_ACCESS_LOCAL_WRITE);
	unsigned long long before = calls_with_lock();
	int failed = !mr || ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, to, page, 0);

	printf("%s: %llu of 1%s\n", what, calls_with_lock() - before, failed ? ", failed" : "");
	if (mr)
		ibv_dereg_mr(mr);
}

int main(void)
{
	/* Two pages of host memory, two of GPU memory, two of host memory. */
	page = sysconf(_SC_PAGESIZE);
	char *host = mmap(NULL, 6 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *gpu = host + 2 * page;

	pd = open_pd(linked_verbs(), 0);
	if (!pd || host == MAP_FAILED || mprotect(gpu, 2 * page, PROT_NONE))
		return 1;
	show("host memory", host, 2 * page, IBV_ACCESS_LOCAL_WRITE);
	show("one byte of it", host + 100, 1, IBV_ACCESS_LOCAL_WRITE);
	show("GPU memory", gpu, 2 * page, IBV_ACCESS_LOCAL_WRITE);
	show("one byte of it", gpu + 100, 1, IBV_ACCESS_LOCAL_WRITE);
	show("host, GPU", gpu - 1, 2, IBV_ACCESS_LOCAL_WRITE);
	show("GPU, host", gpu + 2 * page - 1, 2, IBV_ACCESS_LOCAL_WRITE);
	show("host, GPU, host", host, 6 * page, IBV_ACCESS_LOCAL_WRITE);
	show_moved("from host to host", host, host + page);
	show_moved("from host to GPU", host, gpu);
	show_moved("from GPU to host", gpu, host);
	show("no length", host, 0, IBV_ACCESS_LOCAL_WRITE);
	show("beyond the last address", host, SIZE_MAX, IBV_ACCESS_LOCAL_WRITE);
	show("implicit on-demand", NULL, SIZE_MAX, IBV_ACCESS_ON_DEMAND);
	return 0;
}
