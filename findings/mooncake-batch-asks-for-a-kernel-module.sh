#!/bin/sh
# Mooncake 0.3.14 (mooncake-transfer-engine-cuda13): whether one batch_register_memory call registers its buffers one after the other or
# in a thread for each depends on a directory of the host, /sys/module/nvidia_peermem or nv_peer_mem, also if no GPU memory is
# registered; WITH_NVIDIA_PEERMEM=1 or 0 decides where it is set. The batch is deregistered in several threads in both cases. In
# 0.3.13 the default was a thread for each buffer, on every host. So the same program may register in parallel on one host and
# serially on the next one.
#
# Seen on 2026-11-28, 16 buffers of host memory, on a host without these directories; four devices that a libibverbs in software
# simulates (tests/fake_libibverbs), with a libcuda that has no device:
#   default:               registrations at once: 1  deregistrations at once: 4
#   WITH_NVIDIA_PEERMEM=1: registrations at once: 16  deregistrations at once: 4
# The numbers above 1 vary with the processors.
#
# Needs Python 3.11, pip, make, a C compiler, libnuma1 and libcurl4. Ends with 0 if that is still so.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
engine=$root/target/fixtures/engine
make --silent -C "$root" "$engine/libibverbs.so.1" "$engine/libmlx5.so.1"
/usr/bin/python3 -m pip install --quiet --no-deps --disable-pip-version-check --root-user-action=ignore --target "$work/packages" \
    mooncake-transfer-engine-cuda13==0.3.14 nvidia-cuda-runtime==13.5.37
nm -D --undefined-only "$work/packages/mooncake/engine.so" |
    awk '$2 ~ /^cu[A-Z]/ { print "int " $2 "(void) { return 100; }" }' |
    cc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$work/libcuda.so.1" -xc -
echo '{"cpu:0": [["mlx5_0", "mlx5_1", "mlx5_2", "mlx5_3"], []]}' >"$work/topology.json"

# batch [NAME=VALUE]: prints the greatest numbers of registrations and of deregistrations at once.
batch() {
    rm -f "$work/witness"
    env "$@" LD_LIBRARY_PATH="$engine:$work:$work/packages/nvidia/cu13/lib" PYTHONPATH="$work/packages" \
        MC_CUSTOM_TOPO_JSON="$work/topology.json" FAKE_IBV_HOLD_US=5000 FAKE_IBV_RACE=count FAKE_IBV_WITNESS="$work/witness" \
        /usr/bin/python3 "$root/tests/vm/mooncake_batch.py" >"$work/output" 2>&1 || { cat "$work/output"; exit 2; }
    awk '/^(de)?registrations/ { printf "%s at once: %s  ", $1, $4 }' "$work/witness"
}
if [ -e /sys/module/nvidia_peermem ] || [ -e /sys/module/nv_peer_mem ]; then
    echo "this host has nvidia-peermem: the default is the other one here"
    exit 2
fi
default=$(batch)
peermem=$(batch WITH_NVIDIA_PEERMEM=1)
printf 'default:               %s\nWITH_NVIDIA_PEERMEM=1: %s\n' "$default" "$peermem"
case $default in "registrations at once: 1  deregistrations at once: 1  ") exit 1 ;; "registrations at once: 1  "*) ;; *) exit 1 ;; esac
case $peermem in "registrations at once: 1  "*) exit 1 ;; esac
