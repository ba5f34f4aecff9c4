"""unread_terminal.py PROGRAM [ARGUMENT...]: runs PROGRAM with a terminal as standard error that nobody reads."""

import os
import pty
import sys

_reader, terminal = pty.openpty()
os.dup2(terminal, 2)
# Without _reader, the terminal would have hung up.
os.set_inheritable(_reader, True)
os.execv(sys.argv[1], sys.argv[1:])
