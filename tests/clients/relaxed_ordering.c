/*
 * Asks the process for ibv_reg_mr_iova2, as Mooncake does to learn whether relaxed
 * ordering can be had, and registers with it; and the same with ibv_reg_mr_ex. Needs
 * nothing newer than IBVERBS_1.1, so it also runs on a libibverbs that has no such
 * functions.
 */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "run_together.h"

#define ACCESS (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_RELAXED_ORDERING)

static struct ibv_pd *pd;
static char memory[8192];

static void show(const char *call, struct ibv_mr *mr)
{
	int after = errno;
	const char *field = mr ? wrong_field(mr, pd, memory, sizeof memory) : NULL;
	printf("%s: %s, errno %d\n", call, !mr ? "NULL" : field ? field : "a region", after);
	if (mr && ibv_dereg_mr(mr))
		printf("ibv_dereg_mr failed\n");
	errno = 0;
}

static void describe(const char *what, uint64_t comp_mask, uint64_t iova)
{
	struct ibv_mr *(*reg_mr_ex)(struct ibv_pd *, struct ibv_mr_init_attr *);
	struct ibv_mr_init_attr attributes = {
		.length = sizeof memory, .access = ACCESS, .comp_mask = comp_mask, .iova = iova, .addr = memory};

	*(void **)&reg_mr_ex = dlsym(RTLD_DEFAULT, "ibv_reg_mr_ex");
	if (reg_mr_ex)
		show(what, reg_mr_ex(pd, &attributes));
	else
		printf("ibv_reg_mr_ex: absent\n");
}

int main(void)
{
	struct ibv_mr *(*reg_mr_iova2)(struct ibv_pd *, void *, size_t, uint64_t, unsigned int);
	*(void **)&reg_mr_iova2 = dlsym(RTLD_DEFAULT, "ibv_reg_mr_iova2");

	pd = open_pd(linked_verbs(), 0);
	if (!pd)
		return 1;
	printf("ibv_reg_mr_iova2: %s\n", reg_mr_iova2 ? "present" : "absent");
	errno = 0;
	show("plain ibv_reg_mr", ibv_reg_mr(pd, memory, sizeof memory, IBV_ACCESS_LOCAL_WRITE));
	if (reg_mr_iova2) {
		uintptr_t addr = (uintptr_t)memory;
		show("iova equal to addr", reg_mr_iova2(pd, memory, sizeof memory, addr, ACCESS));
		show("another iova", reg_mr_iova2(pd, memory, sizeof memory, addr + 0x10000, ACCESS));
	}
	describe("described by its address", IBV_REG_MR_MASK_ADDR, 0);
	describe("and another iova", IBV_REG_MR_MASK_ADDR | IBV_REG_MR_MASK_IOVA, (uintptr_t)memory + 0x10000);
	describe("described as a dma-buf", IBV_REG_MR_MASK_FD | IBV_REG_MR_MASK_FD_OFFSET | IBV_REG_MR_MASK_IOVA, 0);
	return close_pd(linked_verbs(), pd) != NULL;
}
