# Functions for `prepare` and `prepare-programs`, which set $check.

die() {
    echo "tests/vm/$(basename "$0"): $*" >&2
    exit 1
}

# Prints nothing unless the command fails, and then all of its output.
quietly() {
    local output
    output=$("$@" 2>&1) || die "failed: $*
$output"
}

# install PACKAGE...: installs the missing packages; with $check, fails if one is missing.
install() {
    local package wanted=() command
    for package; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || wanted+=("$package")
    done
    [ ${#wanted[@]} -gt 0 ] || return 0
    [ -z "$check" ] || die "packages are missing (${wanted[*]}); run tests/vm/$(basename "$0")"
    command=(apt-get install --no-install-recommends "${wanted[@]}")
    [ "$(id -u)" = 0 ] || die "packages are missing; run: sudo ${command[*]}"
    export DEBIAN_FRONTEND=noninteractive
    quietly apt-get update
    quietly "${command[@]}" --yes
}
