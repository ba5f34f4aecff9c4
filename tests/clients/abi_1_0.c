/*
 * A client of the 1.0 ABI, as it was built in 2006: its functions are those of
 * version IBVERBS_1.0, and its structures are not today's.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct device;
struct context;

struct pd {
	struct context *context;
	uint32_t handle;
};

struct mr { /* no addr, no length */
	struct context *context;
	struct pd *pd;
	uint32_t handle;
	uint32_t lkey;
	uint32_t rkey;
};

struct device **get_device_list(int *);
void free_device_list(struct device **);
const char *get_device_name(struct device *);
struct context *open_device(struct device *);
int close_device(struct context *);
struct pd *alloc_pd(struct context *);
int dealloc_pd(struct pd *);
struct mr *reg_mr(struct pd *, void *, size_t, int);
int dereg_mr(struct mr *);

__asm__(".symver get_device_list, ibv_get_device_list@IBVERBS_1.0\n"
	".symver free_device_list, ibv_free_device_list@IBVERBS_1.0\n"
	".symver get_device_name, ibv_get_device_name@IBVERBS_1.0\n"
	".symver open_device, ibv_open_device@IBVERBS_1.0\n"
	".symver close_device, ibv_close_device@IBVERBS_1.0\n"
	".symver alloc_pd, ibv_alloc_pd@IBVERBS_1.0\n"
	".symver dealloc_pd, ibv_dealloc_pd@IBVERBS_1.0\n"
	".symver reg_mr, ibv_reg_mr@IBVERBS_1.0\n"
	".symver dereg_mr, ibv_dereg_mr@IBVERBS_1.0\n");

static int fail(const char *what)
{
	fprintf(stderr, "abi_1_0: %s: %s\n", what, strerror(errno));
	return 1;
}

int main(void)
{
	static char memory[8192];
	const int local_write = 1;
	int devices = 0;

	struct device **list = get_device_list(&devices);
	if (!list || devices < 1)
		return fail("no device");
	const char *name = get_device_name(list[0]);
	if (!name || !*name)
		return fail("no name");
	struct context *context = open_device(list[0]);
	struct pd *pd = context ? alloc_pd(context) : NULL;
	free_device_list(list);
	if (!pd)
		return fail("no protection domain");

	struct mr *mr = reg_mr(pd, memory, sizeof memory, local_write);
	if (!mr)
		return fail("ibv_reg_mr");
	if (mr->context != context || mr->pd != pd || mr->lkey == 0)
		return fail("the region is not of the 1.0 ABI");
	errno = 0;
	if (reg_mr(pd, (void *)4096, sizeof memory, local_write) || errno != EFAULT)
		return fail("a bad address gave no EFAULT");
	if (dereg_mr(mr) || dealloc_pd(pd) || close_device(context))
		return fail("tear-down");
	printf("abi_1_0: registered, checked, deregistered\n");
	return 0;
}
