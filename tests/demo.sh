#!/bin/sh
# demo.sh TARGET
#
# `mrlock stress` four times, on a libibverbs in software: alone, where it dies when two
# threads register memory at once, twice, the second time recorded; observed, where the library counts and serializes nothing;
# and serialized. Exit status 0: the first two died of SIGSEGV, with two calls inside, in the third several were inside
# at once, and the fourth finished. Pictures of the crash, and of the last two, are left in TARGET.
set -u
target=$1
wrong=0

ulimit -c 0 # the first run is expected to crash: no core file
for name in LD_PRELOAD $(env | sed -n 's/^\(\(FAKE_IBV\|MRLOCK\)[A-Z_]*\)=.*/\1/p'); do
    unset "$name"
done
export LD_LIBRARY_PATH="$target/fixtures/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export FAKE_IBV_HOLD_US=1000
PATH=$target/$(uname -m)-unknown-linux-gnu/release:$PATH
crash=$target/demo-crash observed=$target/demo-observed serialized=$target/demo-serialized
beside=$target/demo-before-and-after
rm -f "$crash".* "$observed".* "$serialized".* "$beside".*

# judge MEANING COMMAND...: prints whether the command succeeded.
judge() {
    meaning=$1
    shift
    if "$@"; then
        echo "=> as it should: $meaning"
    else
        echo "=> WRONG. It should be: $meaning"
        wrong=1
    fi
}

# show COMMAND...: say what is run, and run it.
show() {
    echo "\$ $*" | sed "s|$target/||g"
    "$@"
}

echo
echo "8 threads register memory on 4 devices, each thread on a device context of its own."
echo "The verbs library is a fake one that stands for the kernel's race: two threads inside at once kill the process."
echo
echo "1. Alone"
show mrlock stress
judge "two were inside at once; killed by SIGSEGV" [ $? -eq 139 ]
echo
echo "2. The same crash, recorded: the calls that were under way are in the file"
show mrlock run --observe --trace "$crash.rec" mrlock stress
judge "killed by SIGSEGV" [ $? -eq 139 ]
show mrlock timeline "$crash.rec" -o "$crash.svg"
judge "two calls or more were inside when it died" grep -q "the trace ends while [0-9]* calls are under way" "$crash.svg"
echo
echo "3. Observed: mrlock counts, and serializes nothing (here, the fake library counts too, and kills nothing)"
export FAKE_IBV_RACE=count FAKE_IBV_WITNESS="$observed.witness"
show mrlock run --observe --report="$observed.txt" --trace "$observed.rec" mrlock stress --calls 4
judge "finished" [ $? -eq 0 ]
cat "$observed.txt"
number=$(sed -n 's/^together peak //p' "$observed.witness")
counted=$(sed -n 's/^Up to \([0-9]*\) threads were inside at once.*/\1/p' "$observed.txt")
judge "several were inside at once: the fake library saw $number" [ "$number" -gt 1 ]
# A thread is in mrlock a little longer than in the fake library.
judge "mrlock saw no fewer: $counted" [ "$counted" -ge "$number" ]
unset FAKE_IBV_RACE FAKE_IBV_WITNESS
echo
echo "4. Serialized"
show mrlock run --report="$serialized.txt" --trace "$serialized.rec" mrlock stress --calls 4
judge "one inside at a time; finished" [ $? -eq 0 ]
cat "$serialized.txt"
echo
echo "5. One picture of 3 and 4"
show mrlock timeline --beside "$observed.rec" "$serialized.rec" -o "$beside.svg"
judge "several threads in the kernel at once" grep -q "^[0-9]* threads in the kernel at once" "$beside.svg"
judge "then never more than 1" grep -q "^never more than 1 thread in the kernel at once" "$beside.svg"
echo
if [ "$wrong" -eq 0 ]; then
    echo "Pictures: $crash.svg, $beside.svg"
    echo "demo: passed: it dies alone, overlaps when observed, and finishes with mrlock"
else
    echo "demo: FAILED"
fi
exit "$wrong"
