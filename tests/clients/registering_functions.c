/*
 * registering_functions
 *
 * Eight threads, each with a context of its own, register and deregister by every
 * function of libibverbs that registers a process's memory: also by those that are
 * newer than the headers that this is built with, if the libibverbs at run time has
 * them. One line on stdout for each says whether it has. ibv_cmd_reg_mr_ex() is for
 * libibverbs's drivers: it makes the request MR_REG of Linux 6.17.
 */
#define _GNU_SOURCE
#include "run_together.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* verbs.h turns these two into inline functions that choose an entry point themselves. */
#undef ibv_reg_mr
#undef ibv_reg_mr_iova

#define THREADS 8
#define ROUNDS 5
#define LENGTH ((size_t)1 << 20)
#define ACCESS IBV_ACCESS_LOCAL_WRITE

/* Names of its own: newer headers declare the functions, too. Private to libibverbs: src/hook/verbs.rs knows the layout. */
struct buffer {
	void *addr;
	size_t size;
	struct ibv_pd *pd;
	int dmabuf_fd;
};
struct description {
	size_t length;
	int access;
	uint64_t given; /* bits of what follows */
	uint64_t iova;
	void *addr;
	int fd;
	uint64_t fd_offset;
	void *dmah;
	struct buffer *buffer;
};
#define GIVEN_IOVA 1
#define GIVEN_ADDR 2

/* What a driver of libibverbs allocates for a region. */
struct drivers_mr {
	struct ibv_mr mr;
	int type, access;
};

#define OF_LIBIBVERBS(name) __asm__(name) __attribute__((weak))
extern struct ibv_mr *reg_mr_ex(struct ibv_pd *, struct description *) OF_LIBIBVERBS("ibv_reg_mr_ex");
extern void *alloc_buf(struct ibv_pd *, size_t, struct buffer **) OF_LIBIBVERBS("ibv_alloc_buf");
extern void free_buf(struct buffer *) OF_LIBIBVERBS("ibv_free_buf");
extern int export_buf(struct buffer *) OF_LIBIBVERBS("ibv_export_buf_dmabuf_fd");
extern int cmd_reg_mr_ex(struct ibv_pd *, struct drivers_mr *, struct description *) OF_LIBIBVERBS("ibv_cmd_reg_mr_ex");
extern struct ibv_mr *reg_buf_mr(struct ibv_pd *, struct buffer *, void *, size_t, int) OF_LIBIBVERBS("ibv_reg_buf_mr");

/* Registers, and deregisters: NULL, or what went wrong. */
static const char *checked(struct ibv_mr *mr, struct ibv_pd *pd, void *memory)
{
	const char *problem = mr ? wrong_field(mr, pd, memory, LENGTH) : strerror(errno);

	return problem ? problem : ibv_dereg_mr(mr) ? "ibv_dereg_mr failed" : NULL;
}

static const char *by_reg_mr(struct ibv_pd *pd, void *memory)
{
	return checked(ibv_reg_mr(pd, memory, LENGTH, ACCESS), pd, memory);
}

static const char *by_reg_mr_iova(struct ibv_pd *pd, void *memory)
{
	return checked(ibv_reg_mr_iova(pd, memory, LENGTH, (uintptr_t)memory, ACCESS), pd, memory);
}

static const char *by_reg_mr_iova2(struct ibv_pd *pd, void *memory)
{
	return checked(ibv_reg_mr_iova2(pd, memory, LENGTH, (uintptr_t)memory, ACCESS), pd, memory);
}

static const char *on_demand(struct ibv_pd *pd, void *memory)
{
	const unsigned int access = ACCESS | IBV_ACCESS_ON_DEMAND;

	return checked(ibv_reg_mr_iova2(pd, memory, LENGTH, (uintptr_t)memory, access), pd, memory);
}

static struct description described(void *memory)
{
	return (struct description){
		.length = LENGTH,
		.access = ACCESS,
		.given = GIVEN_IOVA | GIVEN_ADDR,
		.iova = (uintptr_t)memory,
		.addr = memory,
	};
}

static const char *by_reg_mr_ex(struct ibv_pd *pd, void *memory)
{
	struct description of = described(memory);

	return checked(reg_mr_ex(pd, &of), pd, memory);
}

/* As a driver does: it allocates the region, which the driver's deregistration frees. */
static const char *by_cmd_reg_mr_ex(struct ibv_pd *pd, void *memory)
{
	struct description of = described(memory);
	struct drivers_mr *made = calloc(1, sizeof *made);
	int error = cmd_reg_mr_ex(pd, made, &of);

	if (error)
		return strerror(error);
	made->mr.context = pd->context;
	made->mr.pd = pd;
	made->mr.addr = memory;
	made->mr.length = LENGTH;
	return checked(&made->mr, pd, memory);
}

/* Whether the fields lie where we think. Soft-RoCE's buffers are ordinary memory: with another file in its place, it is seen
 * which field libibverbs takes for the dma-buf. */
static const char *wrong_field_of_buffer(struct buffer *buffer, struct ibv_pd *pd, void *memory)
{
	struct stat own, exported;
	int file = open("/", O_PATH | O_CLOEXEC);

	if (buffer->addr != memory || buffer->size < LENGTH || buffer->pd != pd || buffer->dmabuf_fd != -1)
		return "struct ibv_buf has another layout";
	buffer->dmabuf_fd = file;
	int copy = export_buf(buffer);
	buffer->dmabuf_fd = -1;
	int differ = fstat(file, &own) || fstat(copy, &exported) || own.st_ino != exported.st_ino || own.st_dev != exported.st_dev;
	close(file);
	close(copy);
	return differ ? "ibv_export_buf_dmabuf_fd() takes another field for the dma-buf" : NULL;
}

static const char *by_reg_buf_mr(struct ibv_pd *pd, void *unused)
{
	struct buffer *buffer;
	void *memory = alloc_buf(pd, LENGTH, &buffer);

	(void)unused;
	if (!memory)
		return strerror(errno);
	const char *problem = export_buf ? wrong_field_of_buffer(buffer, pd, memory) : NULL;
	if (!problem)
		problem = checked(reg_buf_mr(pd, buffer, memory, LENGTH, ACCESS), pd, memory);
	free_buf(buffer);
	return problem;
}

/* Soft-RoCE cannot re-register, and says so. */
static const char *by_rereg_mr(struct ibv_pd *pd, void *memory)
{
	struct ibv_mr *mr = ibv_reg_mr(pd, memory, LENGTH, ACCESS);

	if (!mr)
		return strerror(errno);
	errno = 0;
	int status = ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, ACCESS | IBV_ACCESS_REMOTE_READ);
	if (status && errno != EOPNOTSUPP)
		return strerror(errno);
	return checked(mr, pd, memory);
}

static struct {
	const char *name;
	const char *(*call)(struct ibv_pd *, void *memory);
	int there;
} functions[] = {
	{"ibv_reg_mr", by_reg_mr, 0},	    {"ibv_reg_mr_iova", by_reg_mr_iova, 0},
	{"ibv_reg_mr_iova2", by_reg_mr_iova2, 0}, {"ibv_reg_mr_ex", by_reg_mr_ex, 0},
	{"ibv_reg_buf_mr", by_reg_buf_mr, 0},	    {"ibv_rereg_mr", by_rereg_mr, 0},
	{"ibv_cmd_reg_mr_ex", by_cmd_reg_mr_ex, 0}, {"on demand", on_demand, 0},
};
#define FUNCTIONS (sizeof functions / sizeof functions[0])

static int work(struct ibv_pd *pd, int index)
{
	char *memory = malloc(LENGTH);

	for (int i = 0; i < ROUNDS * (int)FUNCTIONS; i++) {
		int function = (i + index) % (int)FUNCTIONS;
		const char *problem = NULL;
		if (functions[function].there)
			problem = functions[function].call(pd, memory);
		if (problem) {
			fprintf(stderr, "thread %d: %s: %s\n", index, functions[function].name, problem);
			return 1;
		}
	}
	free(memory);
	return 0;
}

static int can_page_on_demand(void)
{
	struct ibv_pd *pd = open_pd(linked_verbs(), 0);
	struct ibv_device_attr_ex attributes;
	int can = pd && !ibv_query_device_ex(pd->context, NULL, &attributes) &&
		  attributes.odp_caps.general_caps & IBV_ODP_SUPPORT;

	if (pd)
		close_pd(linked_verbs(), pd);
	return can;
}

int main(void)
{
	/* What it has itself: a preloaded library may define functions that it lacks. */
	void *libibverbs = dlopen("libibverbs.so.1", RTLD_NOW | RTLD_NOLOAD);

	for (int i = 0; i < (int)FUNCTIONS; i++) {
		functions[i].there = functions[i].call == on_demand ? can_page_on_demand()
								    : libibverbs && dlsym(libibverbs, functions[i].name);
		printf("%s: %s\n", functions[i].name, functions[i].there ? "called" : "absent");
	}

	int failed = run_together(linked_verbs(), THREADS, work);

	printf("threads that failed: %d\n", failed);
	return failed != 0;
}
