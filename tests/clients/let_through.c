/*
 * While this thread registers host memory, a signal handler registers GPU memory (memory that
 * allows no access) by ten requests to the kernel, and then leaves the registration by
 * siglongjmp(), after which come ten more. The kernel refuses them all: the descriptor is closed.
 */
#include "run_together.h"

#include <rdma/rdma_user_ioctl_cmds.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>

static void *gpu;
static sigjmp_buf before;

/* UVERBS_OBJECT_MR, UVERBS_METHOD_REG_MR: attribute 4 is the address, 5 the length. */
static void register_by_ioctl(void)
{
	struct {
		struct ib_uverbs_ioctl_hdr header;
		struct ib_uverbs_attr attributes[2];
	} request;

	for (int i = 0; i < 10; i++) {
		memset(&request, 0, sizeof request);
		request.header.length = sizeof request;
		request.header.object_id = 7;
		request.header.method_id = 5;
		request.header.num_attrs = 2;
		request.attributes[0].attr_id = 4;
		request.attributes[0].len = 8;
		request.attributes[0].data = (uintptr_t)gpu;
		request.attributes[1].attr_id = 5;
		request.attributes[1].len = 8;
		request.attributes[1].data = 4096;
		if (ioctl(-1, RDMA_VERBS_IOCTL, &request) == 0)
			abort();
	}
}

static void handler(int signal)
{
	(void)signal;
	register_by_ioctl();
	siglongjmp(before, 1);
}

int main(void)
{
	static char memory[4096];
	struct itimerval soon = {.it_value.tv_usec = 20000};
	/* static: what siglongjmp() may clobber */
	static struct ibv_pd *pd;

	pd = open_pd(linked_verbs(), 0);
	gpu = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	signal(SIGALRM, handler);
	if (!sigsetjmp(before, 1)) {
		setitimer(ITIMER_REAL, &soon, NULL);
		ibv_reg_mr(pd, memory, sizeof memory, IBV_ACCESS_LOCAL_WRITE);
		abort(); /* it takes longer than the timer */
	}
	register_by_ioctl();
	return 0;
}
