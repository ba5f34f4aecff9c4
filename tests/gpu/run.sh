#!/bin/sh
# run.sh LIBMRLOCK FIXTURES [memory] [frees] [section] [mooncake] [nccl]
#
# Tests mrlock's promises about GPU memory on a real GPU: the named parts, or all of them. All parts
# but nccl need an NVIDIA GPU and its driver, and register through the fake libibverbs; mooncake needs
# a python3 with torch and Mooncake's wheel for torch's CUDA; nccl needs two GPUs, and a python3 with
# torch. A part that cannot run fails.
set -u
library=$(realpath "$1") || exit
fixtures=$(realpath "$2") || exit
here=$(dirname "$0")
shift 2
errors=$(mktemp) || exit
trap 'rm -f "$errors"' EXIT
passed=0
failed=0

for name in LD_PRELOAD $(env | sed -n 's/^\(\(FAKE_IBV\|MRLOCK\)[A-Z_]*\)=.*/\1/p'); do
    unset "$name"
done

# check MEANING COMMAND...: whether the command succeeds, and writes nothing to stderr.
check() {
    echo
    echo "$1"
    shift
    timeout --kill-after=5 900 "$@" 2>"$errors"
    status=$?
    if [ "$status" -eq 0 ] && [ ! -s "$errors" ]; then
        passed=$((passed + 1))
    else
        cat "$errors"
        echo "FAILED: status $status"
        failed=$((failed + 1))
    fi
}

# client MEANING PRELOAD [NAME=VALUE...] NAME [ARGUMENT...]: checks a client on the fake libibverbs, which counts races and
# takes a millisecond for each call.
client() {
    meaning=$1 preload=$2
    shift 2
    check "$meaning" env LD_LIBRARY_PATH="$fixtures/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" LD_PRELOAD="$preload" \
        FAKE_IBV_RACE=count FAKE_IBV_HOLD_US=1000 PATH="$fixtures/gpu:$PATH" "$@"
}

memory() {
    client "Which memory the kernel can read:" "" memory bare
    client "Which memory takes the lock, by default:" "$library" memory any
    client "Which memory takes the lock, with MRLOCK_MEMORY=device:" "$library" MRLOCK_MEMORY=device memory device
}

frees() {
    witness=$fixtures/gpu/witness.so
    both=$library:$witness
    client "GPU memory, without mrlock:" "$witness" frees gpu meet
    client "GPU memory, with mrlock:" "$both" frees gpu apart
    client "GPU memory, MRLOCK_MEMORY=device:" "$both" MRLOCK_MEMORY=device frees gpu apart
    client "GPU memory, MRLOCK_CALLS=reg,dereg:" "$both" MRLOCK_CALLS=reg,dereg frees gpu meet
    client "Host memory, with mrlock:" "$both" frees host meet
    client "Host memory, MRLOCK_MEMORY=device:" "$both" MRLOCK_MEMORY=device frees host meet
}

section() {
    client "CUDA called between mrlock_lock and mrlock_unlock:" "$library" section
}

mooncake() {
    check "Mooncake registers torch's memory while torch frees other memory:" python3 "$here/mooncake_and_torch.py" "$library" "$fixtures"
}

nccl() {
    check "NCCL on two GPUs, without mrlock and with it:" python3 "$here/nccl.py" "$library"
}

date -u +%Y-%m-%d
uname -r
head -1 /proc/driver/nvidia/version
[ $# -gt 0 ] || set -- memory frees section mooncake nccl
for part; do
    case $part in
    memory | frees | section | mooncake | nccl) "$part" ;;
    *) check "No such part: $part" false ;;
    esac
done
echo
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
