/*
 * uverbs_commands [threads | host | gpu | dma-buf | unreadable]
 *
 * Sends each uverbs command that pins or unpins memory, and some that do not, to
 * /dev/null, which supports none. Uses the kernel's own structures and numbers. With
 * threads: only the first of them, a hundred times in each thread, all at once.
 *
 * With the name of a kind of memory: only the commands that name the memory that they register,
 * each for a region of its own, which is printed. `gpu` is memory that allows no access.
 * `unreadable` is host memory, in requests whose addresses the kernel cannot read.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/mlx5_user_ioctl_cmds.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

/* Not in the headers of older kernels. UVERBS_METHOD_REG_MR and its attributes came with 6.17. */
#define METHOD_REG_MR 5
#define ATTR_REG_MR_ADDR 4
#define ATTR_REG_MR_LENGTH 5
#define ATTR_REG_MR_FD 7
#define ATTR_DEVX_UMEM_REG_DMABUF_FD (MLX5_IB_ATTR_DEVX_UMEM_REG_LEN + 4)
#define DRIVER_ERDMA 19

/* Of Alibaba's erdma driver, which is not in the kernel: its numbers are those of mlx5. */
#define ERDMA_OBJECT_UMEM 0x1002
#define ERDMA_METHOD_UMEM_REG 0x1000
#define ERDMA_METHOD_UMEM_DEREG 0x1001

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

/* An attribute of eight bytes, or less, has its value in place of a pointer. */
static void send_with(uint16_t object, uint16_t method, uint32_t driver, struct ib_uverbs_attr first,
		      struct ib_uverbs_attr second, struct ib_uverbs_attr third)
{
	struct {
		struct ib_uverbs_ioctl_hdr header;
		struct ib_uverbs_attr attributes[3];
	} request = {
		.header = {.length = sizeof request,
			   .object_id = object,
			   .method_id = method,
			   .num_attrs = 3,
			   .driver_id = driver},
		.attributes = {first, second, third},
	};
	ioctl(file, RDMA_VERBS_IOCTL, &request);
}

static struct ib_uverbs_attr value(uint16_t id, uint64_t data)
{
	return (struct ib_uverbs_attr){.attr_id = id, .len = sizeof data, .data = data};
}

static void reg_mr(const struct ib_uverbs_reg_mr *command, size_t length)
{
	struct ib_uverbs_attr in = value(UVERBS_ATTR_CORE_IN, (uintptr_t)command);
	in.len = (uint16_t)length;
	send_with(UVERBS_OBJECT_DEVICE, UVERBS_METHOD_INVOKE_WRITE, RDMA_DRIVER_RXE, value(UVERBS_ATTR_CORE_OUT, 0),
		  in, value(UVERBS_ATTR_WRITE_CMD, IB_USER_VERBS_CMD_REG_MR));
}

static int register_memory(const char *kind)
{
	int is_gpu = !strcmp(kind, "gpu"), is_dma_buf = !strcmp(kind, "dma-buf");
	char *memory = mmap(NULL, 1 << 20, is_gpu ? PROT_NONE : PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *nothing = mmap(NULL, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED || nothing == MAP_FAILED)
		return 1;

	if (!strcmp(kind, "unreadable")) {
		struct ib_uverbs_reg_mr command = {.start = (uintptr_t)memory, .length = 5000};
		reg_mr((void *)nothing, sizeof command);
		reg_mr(&command, offsetof(struct ib_uverbs_reg_mr, hca_va) - 1);
		send_with(UVERBS_OBJECT_MR, METHOD_REG_MR, RDMA_DRIVER_RXE, value(ATTR_REG_MR_ADDR, (uintptr_t)memory),
			  value(100, 0), value(101, 0));
		send_with(MLX5_IB_OBJECT_DEVX_UMEM, MLX5_IB_METHOD_DEVX_UMEM_REG, RDMA_DRIVER_MLX5,
			  value(MLX5_IB_ATTR_DEVX_UMEM_REG_LEN, 5000), value(100, 0), value(101, 0));
		return 0;
	}
	/* A dma-buf's address is an offset; the descriptor says that it is one. */
	uint16_t mr_third = is_dma_buf ? ATTR_REG_MR_FD : 100;
	uint16_t umem_third = is_dma_buf ? ATTR_DEVX_UMEM_REG_DMABUF_FD : 100;

	struct ib_uverbs_reg_mr command = {.start = (uintptr_t)memory + 100, .length = 5000, .hca_va = 1};
	if (!is_dma_buf) { /* this command has none */
		printf("uverbs:REG_MR (address %p, length 5000)\n", (void *)(memory + 100));
		reg_mr(&command, sizeof command);
	}
	printf("uverbs:MR_REG (address %p, length 6000)\n", (void *)(memory + 200));
	send_with(UVERBS_OBJECT_MR, METHOD_REG_MR, RDMA_DRIVER_RXE, value(mr_third, 3),
		  value(ATTR_REG_MR_LENGTH, 6000), value(ATTR_REG_MR_ADDR, (uintptr_t)memory + 200));
	printf("mlx5:UMEM_REG (address %p, length 7000)\n", (void *)(memory + 300));
	send_with(MLX5_IB_OBJECT_DEVX_UMEM, MLX5_IB_METHOD_DEVX_UMEM_REG, RDMA_DRIVER_MLX5,
		  value(MLX5_IB_ATTR_DEVX_UMEM_REG_ADDR, (uintptr_t)memory + 300), value(umem_third, 3),
		  value(MLX5_IB_ATTR_DEVX_UMEM_REG_LEN, 7000));
	return 0;
}

int main(int argc, char **argv)
{
	file = open("/dev/null", O_RDWR);
	if (argc > 1 && argv[1][0] >= 'a')
		return register_memory(argv[1]);
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

	show("erdma's UMEM_REG", send(ERDMA_OBJECT_UMEM, ERDMA_METHOD_UMEM_REG, DRIVER_ERDMA, -1));
	show("erdma's UMEM_DEREG", send(ERDMA_OBJECT_UMEM, ERDMA_METHOD_UMEM_DEREG, DRIVER_ERDMA, -1));

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
