"""without_process_vm_readv.py kill|EPERM COMMAND...: runs COMMAND with a system call filter, as systemd would.

WITH_PRELOAD becomes LD_PRELOAD.
"""

import ctypes
import errno
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
KILL, ALLOW, ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
PROCESS_VM_READV = 310

then = KILL if sys.argv[1] == "kill" else ERRNO | errno.EPERM
program = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (LOAD, 0, 0, 0),  # the number of the system call
        (EQUAL, 0, 1, PROCESS_VM_READV),
        (RETURN, 0, 0, then),
        (RETURN, 0, 0, ALLOW),
    )
)


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_char_p)]


libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(Filter(len(program) // 8, program))) == 0
environment = {**os.environ, "LD_PRELOAD": os.environ["WITH_PRELOAD"]}
os.execve(sys.argv[2], sys.argv[2:], environment)
