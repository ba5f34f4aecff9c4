#!/bin/sh
# rdma-core 61.0 and 63.1: a driver and a libibverbs that both say private ABI 59 (librxe-rdmav59.so, IBVERBS_PRIVATE_59) do not fit.
# Release 62 put dm_export_dmabuf_fd and query_port_speed into the middle of struct verbs_context_ops, and the number, which exists to
# refuse such a pair, stayed 59. So libibverbs 62 and 63 load a driver of 59 to 61, open its device without a word, and take each
# function after the first new one from one or two places further on. ibv_poll_cq() calls the driver's post_recv.
# The packages do not keep them apart: in debian/control of 63.1, libibverbs1 breaks ibverbs-providers (<< 59~) only. The ways to such
# a pair: an upgrade of libibverbs1 alone, a vendor's driver that was built for "rdmav59", a driver of the host in a container.
# Number 34 (34 to 56) covers three such changes; the last is a parameter that ibv_cmd_reg_dmabuf_mr() got in 54 (read, not run).
#
# Seen on 2026-11-28:
#   libibverbs 61.0, driver 61.0: ibv_poll_cq is rxe_poll_cq ibv_post_recv is rxe_post_recv
#   libibverbs 63.1, driver 63.1: ibv_poll_cq is rxe_poll_cq ibv_post_recv is rxe_post_recv
#   libibverbs 63.1, driver 61.0: ibv_poll_cq is rxe_post_recv ibv_post_recv is rxe_post_send
#
# The device exists only in files (SYSFS_PATH), and the program's own ioctl() answers for the kernel; nothing is called.
#
# Needs root (a /dev of its own), git, cmake, make, a C compiler, libnl-3-dev and libnl-route-3-dev. Ends with 0 if that is still so.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for release in 61.0 63.1; do
    git clone --quiet --depth 1 --branch "v$release" -c advice.detachedHead=false https://github.com/linux-rdma/rdma-core "$work/$release"
    cmake -S "$work/$release" -B "$work/$release/build" -DNO_MAN_PAGES=1 -DNO_PYVERBS=1 -Wno-dev >"$work/log" 2>&1 &&
        make --silent -C "$work/$release/build" ibverbs rxe-rdmav59 >"$work/log" 2>&1 || { cat "$work/log"; exit 2; }
done
cat >"$work/ask.c" <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <infiniband/verbs.h>
#include <stdio.h>

int ioctl(int descriptor, unsigned long request, ...)
{
	(void)descriptor;
	(void)request;
	return 0;
}

static void say(const char *call, void *function)
{
	Dl_info info;
	if (dladdr(function, &info))
		printf("%s %s %lx\n", call, info.dli_fname, (unsigned long)((char *)function - (char *)info.dli_fbase));
}

int main(void)
{
	struct ibv_device **devices = ibv_get_device_list(NULL);
	struct ibv_context *context = devices && devices[0] ? ibv_open_device(devices[0]) : NULL;
	if (!context)
		return 1;
	say("ibv_poll_cq", (void *)context->ops.poll_cq);
	say("ibv_post_recv", (void *)context->ops.post_recv);
	fflush(stdout);
	_Exit(0);
}
END
cc -rdynamic -I"$work/61.0/build/include" -o "$work/ask" "$work/ask.c" -L"$work/61.0/build/lib" -libverbs

device=$work/sys/class/infiniband_verbs/uverbs0
mkdir -p "$device" "$work/sys/class/infiniband/rxe0"
echo 6 >"$work/sys/class/infiniband_verbs/abi_version"
echo rxe0 >"$device/ibdev"
echo 1:3 >"$device/dev"
echo 1 >"$device/abi_version"
echo '1: CA' >"$work/sys/class/infiniband/rxe0/node_type"
cat >"$work/ask.sh" <<'END'
mount -t tmpfs none /dev
mkdir /dev/infiniband
mknod /dev/null c 1 3
mknod /dev/infiniband/uverbs0 c 1 3
exec "$1/ask"
END
# ask LIBRARY DRIVER
ask() {
    SYSFS_PATH="$work/sys" RDMAV_DRIVERS="$work/$2/build/lib/librxe" LD_LIBRARY_PATH="$work/$1/build/lib" \
        unshare --mount sh "$work/ask.sh" "$work" >"$work/functions" 2>"$work/errors" || { cat "$work/errors"; exit 2; }
    while read -r call file offset; do
        printf '%s is %s\n' "$call" "$(nm "$file" | awk -v offset="$offset" '{ sub(/^0+/, "", $1) } $1 == offset { print $3 }')"
    done <"$work/functions" | paste -s -d ' '
}
old=$(ask 61.0 61.0)
new=$(ask 63.1 63.1)
mixed=$(ask 63.1 61.0)
printf 'libibverbs 61.0, driver 61.0: %s\n' "$old"
printf 'libibverbs 63.1, driver 63.1: %s\n' "$new"
printf 'libibverbs 63.1, driver 61.0: %s\n' "$mixed"
grep --quiet '^Breaks: ibverbs-providers (<< 59~)$' "$work/63.1/debian/control" &&
    [ "$old" = "ibv_poll_cq is rxe_poll_cq ibv_post_recv is rxe_post_recv" ] && [ "$new" = "$old" ] &&
    [ "$mixed" = "ibv_poll_cq is rxe_post_recv ibv_post_recv is rxe_post_send" ]
