/*
 * Calls the five memory region functions in a process that has no libibverbs:
 * only a preloaded library can define them. Prints what each returns, or that
 * there is no such function.
 */
#include <errno.h>
#include <infiniband/verbs.h>
#include <stdio.h>

#undef ibv_reg_mr
#undef ibv_reg_mr_iova

#pragma weak ibv_reg_mr
#pragma weak ibv_reg_mr_iova
#pragma weak ibv_reg_mr_iova2
#pragma weak ibv_rereg_mr
#pragma weak ibv_dereg_mr

static char memory[4096];

static void show_mr(const char *call, struct ibv_mr *mr)
{
	int after = errno;
	printf("%s: %s, errno %d\n", call, mr ? "a region" : "NULL", after);
	errno = 0;
}

static void show_int(const char *call, int result)
{
	int after = errno;
	printf("%s: %d, errno %d\n", call, result, after);
	errno = 0;
}

/* The functions are weak: calling one that is absent would be a jump to zero. */
#define CALL(show, function, ...)                                                              \
	do {                                                                                   \
		if (function)                                                                  \
			show(#function, function(__VA_ARGS__));                                \
		else                                                                           \
			printf(#function ": absent\n");                                        \
	} while (0)

int main(void)
{
	struct ibv_context context = {.cmd_fd = -1, .async_fd = -1};
	struct ibv_pd pd = {.context = &context};
	struct ibv_mr mr = {.context = &context, .pd = &pd, .addr = memory, .length = sizeof memory};

	errno = 0;
	CALL(show_mr, ibv_reg_mr, &pd, memory, sizeof memory, 1);
	CALL(show_mr, ibv_reg_mr_iova, &pd, memory, sizeof memory, 0, 1);
	CALL(show_mr, ibv_reg_mr_iova2, &pd, memory, sizeof memory, 0, 1);
	CALL(show_int, ibv_rereg_mr, &mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, 1);
	CALL(show_int, ibv_dereg_mr, &mr);
	return 0;
}
