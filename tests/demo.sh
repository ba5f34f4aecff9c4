#!/bin/sh
# demo.sh LIBMRLOCK FIXTURES
#
# The same program twice, on a libibverbs in software that dies when two threads
# register memory at once: alone, then with LIBMRLOCK preloaded. Exit status 0:
# the first died of SIGSEGV and the second finished.
set -u
library=$1
fixtures=$2
wrong=0

ulimit -c 0 # the first run is expected to crash: no core file
for name in LD_PRELOAD $(env | sed -n 's/^\(\(FAKE_IBV\|MRLOCK\)[A-Z_]*\)=.*/\1/p'); do
    unset "$name"
done
export LD_LIBRARY_PATH="$fixtures/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

# run STATUS MEANING [NAME=VALUE...]: run the program, hold its exit status against STATUS.
run() {
    wanted=$1 meaning=$2
    shift 2
    env "$@" "$fixtures/clients/stress"
    status=$?
    if [ "$status" -eq "$wanted" ]; then
        echo "=> exit status $status, as it should: $meaning"
    else
        echo "=> exit status $status, WRONG: it should be $wanted"
        wrong=1
    fi
}

echo
echo "8 threads register memory on 4 devices, each thread on a device context of its own."
echo "The verbs library is a fake one that stands for the kernel's race: two threads inside at once kill the process."
echo
echo "1. Alone: stress"
run 139 "two were inside at once; killed by SIGSEGV"
echo
echo "2. With mrlock: LD_PRELOAD=libmrlock.so MRLOCK_REPORT=stderr stress"
run 0 "one inside at a time; finished" "LD_PRELOAD=$library" MRLOCK_REPORT=stderr
echo
if [ "$wrong" -eq 0 ]; then
    echo "demo: passed: it dies alone, it finishes with mrlock"
else
    echo "demo: FAILED"
fi
exit "$wrong"
