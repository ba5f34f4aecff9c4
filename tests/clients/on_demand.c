/*
 * on_demand [pager]
 *
 * Registers and deregisters on demand a region of a sparse file, and frees GPU memory in between: nothing is pinned. Prints how many
 * pages the file has got.
 *
 * With pager, a thread that is not there yet is to bring in missing pages (userfaultfd): an access
 * waits for ever.
 */
#define _GNU_SOURCE
#include "run_together.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LENGTH (64 << 20)
#define NV_ESC_RM_FREE 0xC0104629

static int has_pager(char *region)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register range = {
		.range = {(unsigned long)region, LENGTH},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int pager = syscall(SYS_userfaultfd, O_CLOEXEC);

	return pager >= 0 && !ioctl(pager, UFFDIO_API, &api) && !ioctl(pager, UFFDIO_REGISTER, &range);
}

int main(int argc, char **argv)
{
	struct ibv_pd *pd = open_pd(linked_verbs(), 0);
	int file = memfd_create("sparse", MFD_CLOEXEC);
	struct stat status;

	(void)argv;
	if (!pd || file < 0 || ftruncate(file, LENGTH))
		return 1;
	char *region = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (region == MAP_FAILED || (argc > 1 && !has_pager(region))) {
		perror("on_demand");
		return 1;
	}
	struct ibv_mr *mr = ibv_reg_mr(pd, region, LENGTH, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_ON_DEMAND);
	/* From the first free of GPU memory on, it matters which memory is the GPU's. */
	ioctl(-1, NV_ESC_RM_FREE, NULL);
	if (!mr || ibv_dereg_mr(mr) || fstat(file, &status))
		return 1;
	printf("%lld pages\n", (long long)status.st_blocks * 512 / sysconf(_SC_PAGESIZE));
	return 0;
}
