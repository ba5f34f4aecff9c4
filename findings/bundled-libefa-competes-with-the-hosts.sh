#!/bin/sh
# uccl 0.0.1.post4's wheel has a libefa of its own (rdma-core 52, renamed by auditwheel) for its NCCL plugin, but uses the host's
# libibverbs. libefa is not only a library (efadv_*), it is the driver, too: its constructor registers it with libibverbs, also under
# another name. So the process has two drivers for EFA, and the order decides which one gets the devices, for all of the process:
# loaded before the first ibv_get_device_list(), the wheel's; later, the host's. The efadv_* functions of the other copy then say
# EOPNOTSUPP for each device, as if it were no EFA. So next to this plugin, libfabric or Mooncake for EFA, which use the host's libefa,
# find no device, or the plugin itself does not, depending on what was imported first. (libmlx5, with its mlx5dv_*, is built alike.)
# Leaving libibverbs out of a wheel means to leave out the libraries of its drivers as well.
#
# Seen on 2026-11-28, Debian 12 (libibverbs1 and ibverbs-providers 44.0-2); efadv_query_device(), 95 is EOPNOTSUPP:
#   the wheel's loaded before the list of devices: the host's: 95, the wheel's: 0
#   the wheel's loaded after it:                   the host's: 0, the wheel's: 95
#
# The device exists only in files (SYSFS_PATH), and the program's own ioctl() answers for the kernel.
#
# Needs root (a /dev of its own), Python 3, pip, unzip, a C compiler, libibverbs-dev and ibverbs-providers. Ends with 0 if that is
# still so.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
/usr/bin/python3 -m pip download --quiet --no-deps --disable-pip-version-check --only-binary=:all: \
    --platform manylinux_2_35_x86_64 --dest "$work" uccl==0.0.1.post4
(cd "$work" && unzip -q uccl-*.whl 'uccl.libs/*')
bundled=$(echo "$work"/uccl.libs/libefa-*.so.*)
cat >"$work/ask.c" <<'END'
#include <dlfcn.h>
#include <infiniband/efadv.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Every request succeeds, and the device can do everything. */
int ioctl(int descriptor, unsigned long number, ...)
{
	va_list arguments;
	va_start(arguments, number);
	struct ib_uverbs_ioctl_hdr *request = va_arg(arguments, struct ib_uverbs_ioctl_hdr *);
	va_end(arguments);
	(void)descriptor;
	for (int i = 0; number == RDMA_VERBS_IOCTL && i < request->num_attrs; i++) {
		struct ib_uverbs_attr *attribute = &request->attrs[i];
		if (attribute->attr_id == UVERBS_ATTR_UHW_OUT && attribute->len > sizeof attribute->data)
			memset((void *)(uintptr_t)attribute->data, 0xff, attribute->len);
	}
	return 0;
}

static void *load(const char *library)
{
	void *handle = dlopen(library, RTLD_NOW);
	if (!handle) {
		puts(dlerror());
		exit(1);
	}
	return handle;
}

static int query(const char *library, struct ibv_context *context)
{
	struct efadv_device_attr attributes;
	__typeof__(&efadv_query_device) function;
	*(void **)&function = dlsym(load(library), "efadv_query_device");
	return function(context, &attributes, sizeof attributes);
}

/* ask before|after LIBRARY */
int main(int count, char **argument)
{
	if (count == 3 && !strcmp(argument[1], "before"))
		load(argument[2]);
	struct ibv_device **devices = ibv_get_device_list(NULL);
	load(argument[2]);
	struct ibv_context *context = devices && devices[0] ? ibv_open_device(devices[0]) : NULL;
	if (!context) {
		puts("no device");
		return 1;
	}
	int host = query("libefa.so.1", context);
	printf("the host's: %d, the wheel's: %d\n", host, query(argument[2], context));
	fflush(stdout);
	_Exit(0);
}
END
cc -rdynamic -o "$work/ask" "$work/ask.c" -libverbs

device=$work/sys/class/infiniband_verbs/uverbs0
mkdir -p "$device" "$work/sys/class/infiniband/efa_0/device"
echo 6 >"$work/sys/class/infiniband_verbs/abi_version"
echo efa_0 >"$device/ibdev"
echo 1:3 >"$device/dev"
echo 1 >"$device/abi_version"
echo '1: CA' >"$work/sys/class/infiniband/efa_0/node_type"
echo pci:v00001D0Fd0000EFA1sv00001D0Fsd00000000bc02sc00i00 >"$work/sys/class/infiniband/efa_0/device/modalias"
cat >"$work/ask.sh" <<'END'
mount -t tmpfs none /dev
mkdir /dev/infiniband
mknod /dev/null c 1 3
mknod /dev/urandom c 1 9
mknod /dev/infiniband/uverbs0 c 1 3
exec "$@"
END
# ask before|after: whether the wheel's is loaded before the list of devices is asked for.
ask() {
    SYSFS_PATH="$work/sys" unshare --mount sh "$work/ask.sh" "$work/ask" "$1" "$bundled" 2>"$work/errors" ||
        { cat "$work/errors"; exit 2; }
}
before=$(ask before)
after=$(ask after)
printf "the wheel's loaded before the list of devices: %s\n" "$before"
printf "the wheel's loaded after it:                   %s\n" "$after"
[ "$before" = "the host's: 95, the wheel's: 0" ] && [ "$after" = "the host's: 0, the wheel's: 95" ]
