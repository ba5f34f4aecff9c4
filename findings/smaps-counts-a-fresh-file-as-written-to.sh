#!/bin/sh
# Linux: Private_Dirty in /proc/PID/smaps counts pages of a library that no process has ever written to, code too, as long as the file
# has not been written back to the disk, and one process alone maps it: after an installation or in a fresh image, for half a minute or
# so; on tmpfs, for ever. Then it is Private_Clean. So the same process seems to own less memory a minute later, and a measurement of
# what a preloaded library writes to is wrong directly after its build. Anonymous is right at once: pages that were copied.
#
# Seen on 2026-11-28, Linux 6.18, ext4, the code (r-xp) of a copy of Debian 12's libm.so.6 (2.36-9+deb12u14) in LD_PRELOAD:
#   fresh:       Private_Dirty more than 0, Anonymous 0
#   after sync:  Private_Dirty 0, Anonymous 0
#
# Needs a file system with a disk below /var/tmp. Ends with 0 if that is still so.
set -eu
work=$(mktemp -d /var/tmp/smaps.XXXXXX)
trap 'rm -rf "$work"' EXIT
cp /lib/x86_64-linux-gnu/libm.so.6 "$work/copy.so"
look() {
    LD_PRELOAD="$work/copy.so" /bin/cat /proc/self/smaps >"$work/smaps"
}
# code FIELD: its KiB in the mapping of the code.
code() {
    awk -v field="$1:" '/^[0-9a-f]+-[0-9a-f]+ / { code = /r-xp.*copy\.so$/ } code && $1 == field { print $2 }' "$work/smaps"
}
look
fresh=$(code Private_Dirty)
copied=$(code Anonymous)
sync "$work/copy.so"
look
later=$(code Private_Dirty)
printf 'fresh:      Private_Dirty %s KiB, Anonymous %s KiB\n' "$fresh" "$copied"
printf 'after sync: Private_Dirty %s KiB, Anonymous %s KiB\n' "$later" "$(code Anonymous)"
[ "$fresh" -gt 0 ] && [ "$copied" -eq 0 ] && [ "$later" -eq 0 ]
