# What `prepare` and `prepare-programs` share. They set $check.

die() {
    echo "tests/vm/$(basename "$0"): $*" >&2
    exit 1
}

# Says nothing unless the command fails, and then everything that it said.
quietly() {
    local output
    output=$("$@" 2>&1) || die "failed: $*
$output"
}

# install PACKAGE...: those that are missing; with $check, fails if one is.
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
