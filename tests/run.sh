#!/bin/bash
# run.sh LOG: runs every check, goes on after a failure, and says which took longest, and on the last line how many passed and
# how many failed.
set -u
log=$1
target=$(dirname "$log")
passed=0
failed=0
mkdir -p "$target"
: >"$log"
: >"$log.times"
# A test that this machine cannot run fails. (Without the variable, `cargo test` leaves it out and prints a line.)
export MRLOCK_TEST_ALL=1

# timed COMMAND...: runs it, and keeps its time and the processor time of it and its children.
timed() {
    local TIMEFORMAT="%R %U %S $*"
    { time "$@" 2>&3; } 3>&2 2>>"$log.times"
}

# check COMMAND...: passes or fails as a whole.
check() {
    echo "check: $*"
    if timed "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "FAILED: $*"; fi
}

# tests ARGUMENT...: passes or fails test by test.
tests() {
    timed cargo test --no-fail-fast "$@" 2>&1 | tee "$log.part"
    local status=${PIPESTATUS[0]}
    cat "$log.part" >>"$log"
    count() { echo $(($(sed -n "s/^test result: .* \([0-9]*\) $1.*/\1 +/p" "$log.part" | tr -d '\n') 0)); }
    passed=$((passed + $(count passed)))
    # A test program that was not built, or died, has no line with its results.
    [ "$status" = 0 ] || [ "$(count failed)" != 0 ] || failed=$((failed + 1))
    failed=$((failed + $(count failed)))
}

check tests/vm/prepare
check tests/vm/prepare-releases
check tests/vm/prepare-programs
check tests/vm/prepare-peermem
check cargo fmt --check
check cargo clippy --quiet --workspace --all-targets -- --deny warnings
check make --silent demo
check cargo test --quiet --manifest-path tests/loom/Cargo.toml --target-dir "$target/loom"
# The target of the Makefile's rule for the manual pages: both use the same dependencies.
check cargo test --quiet -p mrlock-cli --target "$(uname -m)-unknown-linux-gnu"
check tests/fuzz/run 100000

tests --lib
# The library that is published. (Those of tests/product and tests/machine have the one that cargo builds by default.)
check make --silent dist
export MRLOCK_LIBRARY=$target/dist/x86_64/libmrlock.so
[ -e "$MRLOCK_LIBRARY" ] || unset MRLOCK_LIBRARY
tests --test library
unset MRLOCK_LIBRARY
tests --test product
parts="arm64 clients_vm gvisor mooncake peermem strangers"
for part in $parts; do
    tests --test machine "$part::"
done
# The rest: one machine for all of them. For arm64, the library that is published, and the command beside it.
export MRLOCK_ARM64_LIBRARY=$target/dist/aarch64/libmrlock.so
[ -e "$MRLOCK_ARM64_LIBRARY" ] || unset MRLOCK_ARM64_LIBRARY
tests --test machine -- $(printf -- '--skip %s:: ' $parts)

echo
echo "The longest:  seconds  of a processor"
sort -rn "$log.times" | head -n 8 | while read -r seconds user system what; do
    printf '%21.0f %15.0f  %s\n' "$seconds" "$(awk "BEGIN { print $user + $system }")" "$what"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
