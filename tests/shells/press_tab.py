"""press_tab.py SHELL ARGUMENT... <KEYS: types each line of KEYS at a prompt of an interactive shell, then `exit`.

KEYS has \\t for the key Tab. Prints what the terminal showed. The prompt must be "ready> ".
"""

import os
import pty
import select
import sys

lines = [line.replace("\\t", "\t") for line in sys.stdin.read().splitlines()] + ["exit"]
shell, terminal = pty.fork()
if shell == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
shown, begin = b"", 0
while True:
    # While a line is typed, the shell may show its prompt again: the next one is behind the line's end.
    if lines and begin >= 0 and b"ready> " in shown[begin:]:
        typed, begin = len(shown), -1
        os.write(terminal, f"{lines.pop(0)}\r".encode())
    readable, _, _ = select.select([terminal], [], [], 60)
    if not readable:
        os.kill(shell, 9)
        sys.exit(f"{sys.argv[1]} is silent, after it showed {shown.decode()}")
    try:
        shown += os.read(terminal, 4096)
    except OSError:  # the shell has ended
        break
    if begin < 0:
        begin = shown.find(b"\n", typed)
os.waitpid(shell, 0)
print(shown.decode(errors="replace"))
