#!/bin/sh
# gVisor (Debian's runsc 0.0~20240729.0-4): poll(2) says POLLOUT for a pipe that has room for 16 bytes. Linux says so only if a page
# (PIPE_BUF, 4096 bytes) has room: a program that asks poll() and then writes a line of up to PIPE_BUF bytes does not wait there. In
# gVisor the same program waits for the pipe's reader. F_GETPIPE_SZ less FIONREAD tells how much room there is, in both.
#
# Seen on 2026-11-28, with the systrap platform:
#   Linux:  POLLOUT False, room 16
#   gVisor: POLLOUT True, room 16
#
# Needs root, python3 and Debian's archive keyring. Ends with 0 if that is still so.
set -eu
version=0.0~20240729.0-4+b7
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main" >"$work/sources.list"
apt() {
    apt-get -qq -o Dir::State::lists="$work/lists" -o Dir::State::status=/dev/null -o Dir::Cache="$work" \
        -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- -o APT::Sandbox::User=root "$@"
}
apt update
(cd "$work" && apt download "runsc=$version" && dpkg -x runsc_*.deb .)
cat >"$work/ask.py" <<'EOF'
import fcntl, os, select, struct, termios
reader, writer = os.pipe()
size = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
os.write(writer, bytes(size - 16))
poll = select.poll()
poll.register(writer, select.POLLOUT)
used = struct.unpack("i", fcntl.ioctl(writer, termios.FIONREAD, bytes(4)))[0]
print(f"POLLOUT {bool(poll.poll(0))}, room {size - used}")
EOF
linux=$(/usr/bin/python3 "$work/ask.py")
gvisor=$("$work/usr/bin/runsc" --network=none --ignore-cgroups --platform=systrap do /usr/bin/python3 "$work/ask.py")
printf 'Linux:  %s\ngVisor: %s\n' "$linux" "$gvisor"
[ "$linux" = "POLLOUT False, room 16" ] && [ "$gvisor" = "POLLOUT True, room 16" ]
