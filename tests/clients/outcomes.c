/*
 * outcomes [null-pd]
 *
 * One line for each call that succeeds or fails in a known way: what it returned
 * and what errno holds after it. errno is 1234 before each call. The output is
 * the same on every run. With `null-pd`: registers in a NULL protection domain,
 * which libibverbs does not survive.
 */
#include "run_together.h"

#include <sys/mman.h>

#define ACCESS IBV_ACCESS_LOCAL_WRITE
#define BEFORE 1234

static struct ibv_pd *pd;
static char *memory;
static const size_t size = 8192;

static void show_mr(const char *call, struct ibv_mr *mr)
{
	int after = errno;
	const char *field = mr ? wrong_field(mr, pd, memory, size) : NULL;
	printf("%s: %s, errno %d\n", call, !mr ? "NULL" : field ? field : "a region", after);
	errno = BEFORE;
}

static void show_int(const char *call, int result)
{
	int after = errno;
	printf("%s: %d, errno %d\n", call, result, after);
	errno = BEFORE;
}

int main(int argc, char **argv)
{
	volatile int changing = ACCESS; /* the header turns such access into ibv_reg_mr_iova2 */
	struct ibv_mr *mr;

	pd = open_pd(linked_verbs(), 0);
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!pd || memory == MAP_FAILED)
		return 1;
	uint64_t iova = (uintptr_t)memory;

	if (argc > 1 && !strcmp(argv[1], "null-pd")) {
		printf("ibv_reg_mr in a NULL domain\n");
		fflush(stdout);
		mr = ibv_reg_mr(NULL, memory, size, ACCESS);
		printf("came back: %s\n", mr ? "a region" : "NULL");
		return 1;
	}

	errno = BEFORE;
	mr = ibv_reg_mr(pd, memory, size, ACCESS);
	show_mr("ibv_reg_mr", mr);
	show_int("ibv_dereg_mr", ibv_dereg_mr(mr));
	mr = ibv_reg_mr(pd, memory, size, changing);
	show_mr("ibv_reg_mr, access known at run time", mr);
	show_int("ibv_dereg_mr", ibv_dereg_mr(mr));
	mr = ibv_reg_mr_iova2(pd, memory, size, iova, ACCESS | IBV_ACCESS_RELAXED_ORDERING);
	show_mr("ibv_reg_mr_iova2", mr);
	show_int("ibv_dereg_mr", ibv_dereg_mr(mr));
	mr = ibv_reg_mr_iova(pd, memory, size, iova, ACCESS);
	show_mr("ibv_reg_mr_iova", mr);

	show_int("ibv_rereg_mr", ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, ACCESS));
	show_int("ibv_rereg_mr, unknown flag", ibv_rereg_mr(mr, 1 << 20, NULL, NULL, 0, 0));
	show_int("ibv_rereg_mr, bad address",
		 ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, (void *)4096, size, 0));

	uint32_t handle = mr->handle;
	mr->handle = 0x7fffffff;
	show_int("ibv_dereg_mr, unknown handle", ibv_dereg_mr(mr));
	mr->handle = handle;
	show_int("ibv_dereg_mr", ibv_dereg_mr(mr));

	void *nowhere = (void *)4096;
	show_mr("ibv_reg_mr, bad address", ibv_reg_mr(pd, nowhere, size, ACCESS));
	show_mr("ibv_reg_mr_iova, bad address", ibv_reg_mr_iova(pd, nowhere, size, iova, ACCESS));
	show_mr("ibv_reg_mr_iova2, bad address", ibv_reg_mr_iova2(pd, nowhere, size, iova, ACCESS));
	show_mr("ibv_reg_mr, bad access", ibv_reg_mr(pd, memory, size, IBV_ACCESS_REMOTE_WRITE));
	mprotect(memory, size, PROT_READ);
	show_mr("ibv_reg_mr, memory that may not be written", ibv_reg_mr(pd, memory, size, ACCESS));
	return close_pd(linked_verbs(), pd) != NULL;
}
