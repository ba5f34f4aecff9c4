/*
 * uverbs_commands [threads]
 *
 * Sends each uverbs command that pins or unpins memory, and some that do not, to
 * /dev/null, which supports none. Uses the kernel's own structures and numbers. With
 * threads: only the first of them, a hundred times in each thread, all at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/mlx5_user_ioctl_cmds.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define METHOD_REG_MR 5 /* UVERBS_METHOD_REG_MR, kernel 6.17 */

static int file;

static unsigned long more_bits; /* beyond the 32 of a request that the kernel looks at */

static unsigned int missing; /* from the length that the header gives */

static int send(uint16_t object, uint16_t method, uint32_t driver, int write_command)
{
	struct {
		struct ib_uverbs_ioctl_hdr header;
		struct ib_uverbs_attr attributes[3];
	} request = {
		.header = {.length = (uint16_t)(sizeof request - missing),
			   .object_id = object,
			   .method_id = method,
			   .num_attrs = 3,
			   .driver_id = driver},
		.attributes = {{.attr_id = UVERBS_ATTR_CORE_IN}, {.attr_id = UVERBS_ATTR_CORE_OUT}},
	};
	/* Not first: the sender may put it anywhere among the attributes. */
	request.attributes[2].attr_id = write_command < 0 ? 3 : UVERBS_ATTR_WRITE_CMD;
	request.attributes[2].data = write_command < 0 ? 0 : (uint64_t)write_command;
	return ioctl(file, RDMA_VERBS_IOCTL | more_bits, &request);
}

static int write_command(int command)
{
	return send(UVERBS_OBJECT_DEVICE, UVERBS_METHOD_INVOKE_WRITE, RDMA_DRIVER_RXE, command);
}

static void show(const char *command, int result)
{
	int after = errno;
	printf("%s: %d, errno %d\n", command, result, after);
}

static void *work(void *start)
{
	pthread_barrier_wait(start);
	for (int i = 0; i < 100; i++)
		write_command(IB_USER_VERBS_CMD_REG_MR);
	return NULL;
}

static int run_together(unsigned int count)
{
	pthread_t threads[64];
	pthread_barrier_t start;

	if (count > 64 || pthread_barrier_init(&start, NULL, count))
		return 2;
	for (unsigned int i = 0; i < count; i++) {
		if (pthread_create(&threads[i], NULL, work, &start))
			exit(1);
	}
	for (unsigned int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	return 0;
}

int main(int argc, char **argv)
{
	file = open("/dev/null", O_RDWR);
	if (argc > 1)
		return run_together((unsigned int)atoi(argv[1]));

	show("REG_MR", write_command(IB_USER_VERBS_CMD_REG_MR));
	more_bits = 1ul << 40;
	show("REG_MR, more bits", write_command(IB_USER_VERBS_CMD_REG_MR));
	more_bits = 0;
	missing = 1;
	show("REG_MR, wrong length", write_command(IB_USER_VERBS_CMD_REG_MR));
	missing = 0;
	show("REREG_MR", write_command(IB_USER_VERBS_CMD_REREG_MR));
	show("DEREG_MR", write_command(IB_USER_VERBS_CMD_DEREG_MR));
	show("MR_DESTROY", send(UVERBS_OBJECT_MR, UVERBS_METHOD_MR_DESTROY, RDMA_DRIVER_RXE, -1));
	show("MR_REG", send(UVERBS_OBJECT_MR, METHOD_REG_MR, RDMA_DRIVER_RXE, -1));
	show("UMEM_REG", send(MLX5_IB_OBJECT_DEVX_UMEM, MLX5_IB_METHOD_DEVX_UMEM_REG,
			      RDMA_DRIVER_MLX5, -1));
	show("UMEM_DEREG", send(MLX5_IB_OBJECT_DEVX_UMEM, MLX5_IB_METHOD_DEVX_UMEM_DEREG,
				RDMA_DRIVER_MLX5, -1));

	show("CREATE_CQ", write_command(IB_USER_VERBS_CMD_CREATE_CQ));
	show("no write command", write_command(-1));
	show("REG_DMABUF_MR",
	     send(UVERBS_OBJECT_MR, UVERBS_METHOD_REG_DMABUF_MR, RDMA_DRIVER_RXE, -1));
	show("ADVISE_MR", send(UVERBS_OBJECT_MR, UVERBS_METHOD_ADVISE_MR, RDMA_DRIVER_RXE, -1));
	show("CQ_DESTROY", send(UVERBS_OBJECT_CQ, UVERBS_METHOD_CQ_DESTROY, RDMA_DRIVER_RXE, -1));
	show("another driver's UMEM_REG", send(MLX5_IB_OBJECT_DEVX_UMEM, MLX5_IB_METHOD_DEVX_UMEM_REG,
					       RDMA_DRIVER_RXE, -1));
	return 0;
}
