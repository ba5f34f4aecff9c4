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
    readable, _, _ = select.select([terminal], [], [], 60)
    if not readable:
        os.kill(shell, 9)
        sys.exit(f"{sys.argv[1]} is silent, after it showed {shown.decode()}")
    try:
        shown += os.read(terminal, 4096)
    except OSError:  # the shell has ended
        break
    # While a line is typed, the shell may show its prompt again.
    if lines and b"ready> " in shown[begin:]:
        os.write(terminal, f"{lines.pop(0)}\r".encode())
        begin = len(shown)
        while b"\n" not in shown[begin:]:
            shown += os.read(terminal, 4096)
        begin = shown.index(b"\n", begin)
os.waitpid(shell, 0)
print(shown.decode(errors="replace"))
