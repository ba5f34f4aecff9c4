#!/bin/sh
# Linux (6.1, 6.12, 7.2): since pages that a device may write are no longer shared with a child, fork() copies every registered page of private
# memory at once, although the child may never read it. Not in the manual page of ibv_is_fork_initialized, which says only that
# ibv_fork_init is "unneeded" on such kernels:
# - The child of a process with N bytes registered needs N bytes more, in small pages.
# - The parent loses its transparent huge pages: fork() splits those that are registered, and they stay split after the child has ended and the
#   regions are deregistered.
# - With private huge pages (MAP_HUGETLB), fork() itself fails with ENOMEM unless the pool has as many free pages as are registered.
# None of that happens with shared memory, nor to a process that calls the "unneeded" ibv_fork_init first: libibverbs then still takes the
# region out of the child (MADV_DONTFORK). Nor with posix_spawn, which shares the memory until the exec.
# So one os.fork() (multiprocessing's "fork", a daemon's helper) in a server that has registered its cache doubles the memory in use, or
# makes all later accesses to that cache slower.
#
# Seen on 2026-11-28, libibverbs 44.0-2, Soft-RoCE; 32 MiB, or 16 huge pages of a pool of 20:
#   Linux 6.1.0-56-amd64
#   not registered: own pages of the child 0 MiB, huge pages of the parent 32 MiB before, 32 MiB after
#   registered: own pages of the child 32 MiB, huge pages of the parent 32 MiB before, 0 MiB after
#   deregistered: own pages of the child 0 MiB, huge pages of the parent 0 MiB before, 0 MiB after
#   shared memory, registered: own pages of the child 0 MiB
#   MAP_HUGETLB, not registered: fork() works
#   MAP_HUGETLB, registered: fork() fails: Cannot allocate memory
#   MAP_HUGETLB, registered: posix_spawn() works
#   registered after ibv_fork_init: own pages of the child 0 MiB, huge pages of the parent 32 MiB before, 32 MiB after
# and the same in 6.12.117+deb13-amd64 and 7.2.13+deb14-amd64.
#
# Needs what tests/vm/prepare-releases brings. Ends with 0 if that is still so.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/guest"
cat >"$work/guest/program.c" <<'EOF'
#include <errno.h>
#include <infiniband/verbs.h>
#include "proc.h"
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MIB = 1 << 20, SIZE = 32 * MIB };

static long own_mib(const char *key) { return mib("/proc/self/smaps_rollup", key); }

static void *map(int flags)
{
	char *memory = mmap(NULL, SIZE + 2 * MIB, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);
	if (!(flags & MAP_HUGETLB))
		memory += 2 * MIB - (unsigned long)memory % (2 * MIB);
	if (flags == MAP_PRIVATE)
		madvise(memory, SIZE, MADV_HUGEPAGE);
	return memset(memory, 1, SIZE);
}

static void forks(const char *what)
{
	long before = own_mib("AnonHugePages");
	pid_t child = fork();
	if (!child) {
		printf("%s: own pages of the child %ld MiB", what, own_mib("Private_Dirty"));
		fflush(stdout);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	if (strncmp(what, "shared", 6))
		printf(", huge pages of the parent %ld MiB before, %ld MiB after", before, own_mib("AnonHugePages"));
	printf("\n");
	fflush(stdout);
}

static void works(const char *what)
{
	pid_t child = fork();
	if (!child)
		_exit(0);
	printf("%s: fork() %s%s\n", what, child < 0 ? "fails: " : "works", child < 0 ? strerror(errno) : "");
	fflush(stdout);
	waitpid(child, NULL, 0);
}

int main(int count, char **arguments)
{
	if (count > 1 && ibv_fork_init())
		return 1;
	FILE *pool = fopen("/proc/sys/vm/nr_hugepages", "w");
	fputs("20", pool);
	fclose(pool);
	struct ibv_pd *pd = ibv_alloc_pd(ibv_open_device(*ibv_get_device_list(NULL)));

	void *memory = map(MAP_PRIVATE);
	if (count == 1)
		forks("not registered");
	struct ibv_mr *region = ibv_reg_mr(pd, memory, SIZE, IBV_ACCESS_LOCAL_WRITE);
	forks(count > 1 ? "registered after ibv_fork_init" : "registered");
	if (count > 1)
		return 0;
	ibv_dereg_mr(region);
	forks("deregistered");
	munmap(memory, SIZE);

	memory = map(MAP_SHARED);
	region = ibv_reg_mr(pd, memory, SIZE, IBV_ACCESS_LOCAL_WRITE);
	forks("shared memory, registered");
	ibv_dereg_mr(region);

	memory = map(MAP_PRIVATE | MAP_HUGETLB);
	works("MAP_HUGETLB, not registered");
	region = ibv_reg_mr(pd, memory, SIZE, IBV_ACCESS_LOCAL_WRITE);
	works("MAP_HUGETLB, registered");
	pid_t spawned;
	int error = posix_spawn(&spawned, "/bin/true", NULL, NULL, (char *[]){"true", NULL}, NULL);
	printf("MAP_HUGETLB, registered: posix_spawn() %s\n", error ? strerror(error) : "works");
	fflush(stdout);
	execl(*arguments, *arguments, "ibv_fork_init", NULL);
}
EOF
cat >"$work/guest/expected" <<'EOF'
not registered: own pages of the child 0 MiB, huge pages of the parent 32 MiB before, 32 MiB after
registered: own pages of the child 32 MiB, huge pages of the parent 32 MiB before, 0 MiB after
deregistered: own pages of the child 0 MiB, huge pages of the parent 0 MiB before, 0 MiB after
shared memory, registered: own pages of the child 0 MiB
MAP_HUGETLB, not registered: fork() works
MAP_HUGETLB, registered: fork() fails: Cannot allocate memory
MAP_HUGETLB, registered: posix_spawn() works
registered after ibv_fork_init: own pages of the child 0 MiB, huge pages of the parent 32 MiB before, 32 MiB after
EOF
"$(dirname "$0")/boot" "$work/guest"
