/*
 * stress [-t threads] [-n calls] [-s size] [-g]
 *
 * Threads, each with a device context and protection domain of its own, start together.
 * Each registers and deregisters a memory region `calls` times, by all four entry points in
 * turn, and checks the results. With -g, the memory allows no access, as GPU memory does.
 */
#include "run_together.h"

#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#define ACCESS (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE)

static int calls = 400;
static size_t size = 64 * 1024;
static bool is_gpu;

static const char *const names[] = {"ibv_reg_mr", "ibv_reg_mr_iova", "ibv_reg_mr_iova2",
				    "ibv_rereg_mr"};

static int fail(int index, int call, const char *what, const char *why)
{
	fprintf(stderr, "stress: thread %d, call %d, %s: %s\n", index, call, what, why);
	return 1;
}

static int work(struct ibv_pd *pd, int index)
{
	int protection = is_gpu ? PROT_NONE : PROT_READ | PROT_WRITE;
	char *memory = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return fail(index, 0, "mmap", strerror(errno));
	if (!is_gpu)
		memset(memory, index, size);

	for (int i = 0; i < calls; i++) {
		const char *name = names[i % 4];
		uint64_t iova = (uintptr_t)memory;
		size_t length = size;
		struct ibv_mr *mr;
		switch (i % 4) {
		case 1:
			mr = ibv_reg_mr_iova(pd, memory, size, iova, ACCESS);
			break;
		case 2:
			mr = ibv_reg_mr_iova2(pd, memory, size, iova,
					      ACCESS | IBV_ACCESS_RELAXED_ORDERING);
			break;
		default: /* 0, and 3: the region to re-register */
			mr = ibv_reg_mr(pd, memory, size, ACCESS);
		}
		if (!mr)
			return fail(index, i, name, strerror(errno));
		if (i % 4 == 3) {
			int error = ibv_rereg_mr(
				mr, IBV_REREG_MR_CHANGE_TRANSLATION | IBV_REREG_MR_CHANGE_ACCESS, pd,
				memory, size / 2, ACCESS);
			if (!error)
				length = size / 2;
			else if (errno != EOPNOTSUPP) /* not every device can */
				return fail(index, i, name, strerror(errno));
		}
		const char *field = wrong_field(mr, pd, memory, length);
		if (field)
			return fail(index, i, name, field);
		int error = ibv_dereg_mr(mr);
		if (error)
			return fail(index, i, "ibv_dereg_mr", strerror(error));
	}
	munmap(memory, size);
	return 0;
}

int main(int argc, char **argv)
{
	int threads = 8, option;

	while ((option = getopt(argc, argv, "t:n:s:g")) != -1) {
		long value = optarg ? atol(optarg) : 1;
		if (value < 1)
			option = '?';
		if (option == 'g')
			is_gpu = true;
		else if (option == 't')
			threads = (int)value;
		else if (option == 'n')
			calls = (int)value;
		else if (option == 's' && value > 1)
			size = (size_t)value;
		else {
			fprintf(stderr, "usage: stress [-t threads] [-n calls] [-s size] [-g]\n");
			return 2;
		}
	}
	int failed = run_together(linked_verbs(), threads, work);
	if (failed) {
		fprintf(stderr, "stress: %d of %d threads failed\n", failed, threads);
		return 1;
	}
	printf("stress: %d threads, %d memory regions of %zu bytes each: registered, checked, "
	       "deregistered\n",
	       threads, calls, size);
	return 0;
}
