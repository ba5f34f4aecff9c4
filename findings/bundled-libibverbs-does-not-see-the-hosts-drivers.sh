#!/bin/sh
# nixl-cu12 1.5.1's wheel has a libibverbs of its own (rdma-core 48 for EL8, renamed by auditwheel), and the driver of mlx5 alone. It
# reads the host's /etc/libibverbs.d, but looks for the drivers in /usr/lib64/libibverbs, so on Debian it finds none of those that
# are named there. LD_LIBRARY_PATH does not help: the host's drivers load then, but each needs libibverbs.so.1, so they bring a second
# libibverbs into the process, and register with that one. The wheel's still has no driver, and the process has two copies. So on a
# host with another device than mlx5 (here: rxe), a program with the host's library finds a device, and one with the wheel's none.
#
# Seen on 2026-11-28, Debian 12 (libibverbs1 and ibverbs-providers 44.0-2), a device rxe0 that exists only in files (SYSFS_PATH):
#   Debian's:                                   devices 1, copies of libibverbs 1
#   the wheel's:                                devices 0, copies of libibverbs 1
#   the wheel's, with the directory of drivers: devices 0, copies of libibverbs 2
#
# Needs root (a /dev of its own), Python 3, pip, unzip, libibverbs1 and ibverbs-providers. Ends with 0 if that is still so.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
/usr/bin/python3 -m pip download --quiet --no-deps --disable-pip-version-check --only-binary=:all: --python-version 311 \
    --platform manylinux_2_28_x86_64 --dest "$work" nixl-cu12==1.5.1
(cd "$work" && unzip -q nixl_cu12-*.whl 'nixl_cu12.libs/*')
bundled=$(echo "$work"/nixl_cu12.libs/libibverbs-*.so.*)
drivers=/usr/lib/x86_64-linux-gnu/libibverbs

device=$work/sys/class/infiniband_verbs/uverbs0
mkdir -p "$device" "$work/sys/class/infiniband/rxe0"
echo 6 >"$work/sys/class/infiniband_verbs/abi_version"
echo rxe0 >"$device/ibdev"
echo 231:192 >"$device/dev"
echo 1 >"$device/abi_version"
echo '1: CA' >"$work/sys/class/infiniband/rxe0/node_type"
cat >"$work/ask.py" <<'END'
import ctypes, re, sys
count = ctypes.c_int(-1)
ctypes.CDLL(sys.argv[1]).ibv_get_device_list(ctypes.byref(count))
copies = set(re.findall(r"/\S*/libibverbs[-.]\S*", open("/proc/self/maps").read()))
print(f"devices {count.value}, copies of libibverbs {len(copies)}")
END
cat >"$work/ask" <<'END'
mount -t tmpfs none /dev
mkdir /dev/infiniband
mknod /dev/null c 1 3
mknod /dev/urandom c 1 9
mknod /dev/infiniband/uverbs0 c 231 192
exec /usr/bin/python3 "$1/ask.py" "$2"
END
# ask LIBRARY DIRECTORIES
ask() {
    SYSFS_PATH="$work/sys" LD_LIBRARY_PATH="$2" unshare --mount sh "$work/ask" "$work" "$1" 2>"$work/errors" ||
        { cat "$work/errors"; exit 2; }
}
host=$(ask libibverbs.so.1 "")
wheel=$(ask "$bundled" "$work/nixl_cu12.libs")
both=$(ask "$bundled" "$work/nixl_cu12.libs:$drivers")
printf "Debian's:                                   %s\n" "$host"
printf "the wheel's:                                %s\n" "$wheel"
printf "the wheel's, with the directory of drivers: %s\n" "$both"
[ "$host" = "devices 1, copies of libibverbs 1" ] && [ "$wheel" = "devices 0, copies of libibverbs 1" ] &&
    [ "$both" = "devices 0, copies of libibverbs 2" ]
