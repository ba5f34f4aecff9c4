#!/bin/sh
# run.sh LOG: runs every check, goes on after a failure, and says on the last line how many passed and failed.
set -u
log=$1
passed=0
mkdir -p "$(dirname "$log")"
failed=0
# A test that this machine cannot run fails. (Without the variable, `cargo test` leaves it out and prints a line.)
export MRLOCK_TEST_ALL=1

# check COMMAND...: passes or fails as a whole.
check() {
    echo "check: $*"
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "FAILED: $*"; fi
}

check tests/vm/prepare
check tests/vm/prepare-programs
check cargo fmt --check
check cargo clippy --quiet --workspace --all-targets -- --deny warnings
check make --silent demo
check cargo test --quiet --manifest-path tests/loom/Cargo.toml --target-dir "$(dirname "$log")/loom"
check cargo test --quiet -p mrlock-cli
check tests/fuzz/run 100000

{
    cargo test --no-fail-fast 2>&1
    echo "cargo test: status $?"
} | tee "$log"
passed=$((passed + $(sed -n 's/^test result: .* \([0-9]*\) passed.*/\1 +/p' "$log" | tr -d '\n') 0))
failed=$((failed + $(sed -n 's/^test result: .* \([0-9]*\) failed.*/\1 +/p' "$log" | tr -d '\n') 0))
# A test program that was not built, or died, has no line with its results.
if [ "$failed" -eq 0 ] && ! grep -q '^cargo test: status 0$' "$log"; then
    failed=1
fi

# The same tests with the library of `make dist`.
check make --silent dist
check env MRLOCK_LIBRARY="$(dirname "$log")/dist/libmrlock.so" cargo test --quiet --no-fail-fast --test library

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
