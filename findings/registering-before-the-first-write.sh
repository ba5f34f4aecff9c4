#!/bin/sh
# Linux: whether memory that asked for transparent huge pages (MADV_HUGEPAGE) has them once it is registered depends on what came first. Pages
# that have not been written are there only as a page of zeros, and a registration replaces that by pages of the process: huge or small ones,
# as the kernel's version has it. The write that follows does not make them huge.
# - Never touched, registered without a right to write (a buffer to send from): huge in 6.1 and 7.2, small in 6.12.
# - Read before (zeros that were summed up, say): small in 6.1 and 6.12, registered or not, huge in 7.2.
# Memory that was written first (or never touched, and registered with IBV_ACCESS_LOCAL_WRITE) has huge pages in all three.
#
# Seen on 2026-11-28, libibverbs 44.0-2, Soft-RoCE; the 32 MiB are written last, then the huge pages counted:
#   Linux 6.1.0-56-amd64
#   untouched: not registered: 32 MiB huge, access 0: 32 MiB huge, IBV_ACCESS_LOCAL_WRITE: 32 MiB huge
#   read: not registered: 0 MiB huge, access 0: 0 MiB huge, IBV_ACCESS_LOCAL_WRITE: 0 MiB huge
#   written: not registered: 32 MiB huge, access 0: 32 MiB huge, IBV_ACCESS_LOCAL_WRITE: 32 MiB huge
#   Linux 6.12.117+deb13-amd64
#   untouched: not registered: 32 MiB huge, access 0: 0 MiB huge, IBV_ACCESS_LOCAL_WRITE: 32 MiB huge
#   read: not registered: 0 MiB huge, access 0: 0 MiB huge, IBV_ACCESS_LOCAL_WRITE: 0 MiB huge
#   written: not registered: 32 MiB huge, access 0: 32 MiB huge, IBV_ACCESS_LOCAL_WRITE: 32 MiB huge
#   Linux 7.2.13+deb14-amd64
#   32 MiB huge in all nine
#
# Needs what tests/vm/prepare-releases brings. Ends with 0 if that is still so.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/guest"
cat >"$work/guest/program.c" <<'EOF'
#include <infiniband/verbs.h>
#include "proc.h"
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { MIB = 1 << 20, SIZE = 32 * MIB };

static long huge_mib(void) { return mib("/proc/self/smaps_rollup", "AnonHugePages"); }

static long registered(struct ibv_pd *pd, const char *before, int access)
{
	char *mapping = mmap(NULL, SIZE + 2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	volatile char *memory = mapping + 2 * MIB - (unsigned long)mapping % (2 * MIB);

	madvise((void *)memory, SIZE, MADV_HUGEPAGE);
	for (long i = 0; i < SIZE && strcmp(before, "untouched"); i += 4096)
		strcmp(before, "read") ? (memory[i] = 1) : memory[i];
	struct ibv_mr *region = access < 0 ? NULL : ibv_reg_mr(pd, (void *)memory, SIZE, access);
	memset((void *)memory, 1, SIZE);
	long huge = region || access < 0 ? huge_mib() : -1;
	if (region)
		ibv_dereg_mr(region);
	munmap(mapping, SIZE + 2 * MIB);
	return huge;
}

int main(void)
{
	struct ibv_pd *pd = ibv_alloc_pd(ibv_open_device(*ibv_get_device_list(NULL)));
	const char *before[] = {"untouched", "read", "written"};

	for (int i = 0; i < 3; i++) {
		printf("%s: not registered: %ld MiB huge,", before[i], registered(pd, before[i], -1));
		printf(" access 0: %ld MiB huge,", registered(pd, before[i], 0));
		printf(" IBV_ACCESS_LOCAL_WRITE: %ld MiB huge\n", registered(pd, before[i], IBV_ACCESS_LOCAL_WRITE));
	}
}
EOF
for before in untouched read written; do
    echo "$before: not registered: 32 MiB huge, access 0: 32 MiB huge, IBV_ACCESS_LOCAL_WRITE: 32 MiB huge"
done >"$work/guest/expected-sid"
sed '/^read/s/32/0/g' "$work/guest/expected-sid" >"$work/guest/expected-12"
sed '/^untouched/s/access 0: 32/access 0: 0/' "$work/guest/expected-12" >"$work/guest/expected-trixie"
"$(dirname "$0")/boot" "$work/guest"
