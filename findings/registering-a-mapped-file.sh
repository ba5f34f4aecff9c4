#!/bin/sh
# Linux: whether a mapped file (weights, a cache on disk) can be registered, and what that costs, depends on the mapping, the access, the
# file system and the kernel. What works in 6.1 fails in 6.12 in one case, and the other way round in another. The error is EFAULT, as for a
# bad address.
# - A private mapping is copied as a whole into memory of the process, even if it is mapped read-only and registered without any right
#   to write. (safetensors maps a file so for torch: shared=False.) So registering weights to serve them doubles their memory.
# - A shared mapping, mapped read-only, cannot be registered at all in 6.1. In 6.12 it can, to read, without a copy.
# - A shared mapping, mapped writable, can be registered for remote writes in 6.1. In 6.12 it cannot if the file is on a disk's file
#   system (here ext4), but still can on tmpfs.
#
# Seen on 2026-11-28, libibverbs 44.0-2, Soft-RoCE; a file of 8 MiB; "read" is IBV_ACCESS_REMOTE_READ, "write" IBV_ACCESS_REMOTE_WRITE:
#   Linux 6.1.0-56-amd64
#   tmpfs, private, read-only: to read: works with a copy; to write: Bad address
#   tmpfs, private: to read: works with a copy; to write: works with a copy
#   tmpfs, shared, read-only: to read: Bad address; to write: Bad address
#   tmpfs, shared: to read: works without a copy; to write: works without a copy
#   (and the same four lines for ext4)
#   Linux 6.12.117+deb13-amd64 and 7.2.13+deb14-amd64: as above, but
#   tmpfs, shared, read-only: to read: works without a copy; to write: Bad address
#   ext4, shared, read-only: to read: works without a copy; to write: Bad address
#   ext4, shared: to read: works without a copy; to write: Bad address
#
# Needs what tests/vm/prepare-releases brings. Ends with 0 if that is still so.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/guest"
cat >"$work/guest/program.c" <<'EOF'
#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include "proc.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SIZE = 8 << 20 };

static long anonymous_mib(void) { return mib("/proc/self/status", "RssAnon"); }

static void registers(struct ibv_pd *pd, const char *system, const char *mapping, int protection, int flags)
{
	char file[16];

	snprintf(file, sizeof file, "%s/file", system);
	printf("%s, %s:", system, mapping);
	for (int write = 0; write < 2; write++) {
		int access = write ? IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE : IBV_ACCESS_REMOTE_READ;
		int fd = open(file, protection & PROT_WRITE && flags == MAP_SHARED ? O_RDWR : O_RDONLY);
		void *memory = mmap(NULL, SIZE, protection, flags, fd, 0);
		long before = anonymous_mib();
		struct ibv_mr *region = ibv_reg_mr(pd, memory, SIZE, access);
		int error = errno;
		printf("%s %s", write ? "; to write:" : " to read:", region ? "works" : strerror(error));
		if (region) {
			printf("%s", anonymous_mib() - before > (SIZE >> 20) / 2 ? " with a copy" : " without a copy");
			ibv_dereg_mr(region);
		}
		munmap(memory, SIZE);
		close(fd);
	}
	printf("\n");
}

int main(void)
{
	if (system("mkdir tmpfs ext4 && mount -t tmpfs none tmpfs && mount -o loop image ext4 && cp ext4/file tmpfs"))
		return 1;
	struct ibv_pd *pd = ibv_alloc_pd(ibv_open_device(*ibv_get_device_list(NULL)));
	const char *systems[] = {"tmpfs", "ext4"};

	for (int i = 0; i < 2; i++) {
		registers(pd, systems[i], "private, read-only", PROT_READ, MAP_PRIVATE);
		registers(pd, systems[i], "private", PROT_READ | PROT_WRITE, MAP_PRIVATE);
		registers(pd, systems[i], "shared, read-only", PROT_READ, MAP_SHARED);
		registers(pd, systems[i], "shared", PROT_READ | PROT_WRITE, MAP_SHARED);
	}
}
EOF
mkdir "$work/files"
head -c 8M /dev/urandom >"$work/files/file"
/sbin/mke2fs -q -t ext4 -d "$work/files" "$work/guest/image" 24M >/dev/null
for system in tmpfs ext4; do
    cat <<EOF
$system, private, read-only: to read: works with a copy; to write: Bad address
$system, private: to read: works with a copy; to write: works with a copy
$system, shared, read-only: to read: Bad address; to write: Bad address
$system, shared: to read: works without a copy; to write: works without a copy
EOF
done >"$work/guest/expected-12"
sed -e '/shared, read-only/s/read: Bad address/read: works without a copy/' -e '/^ext4, shared:/s/write: .*/write: Bad address/' \
    "$work/guest/expected-12" >"$work/guest/expected-trixie"
cp "$work/guest/expected-trixie" "$work/guest/expected-sid"
"$(dirname "$0")/boot" "$work/guest"
