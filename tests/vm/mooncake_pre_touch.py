"""Registers one buffer of 4 GiB on one device. Mooncake then first registers and deregisters the parts of the buffer, in
several threads. Prints the return codes.

The buffer is the same 64 MiB of memory, mapped 64 times: the machine has no 4 GiB.
"""

import ctypes
import mmap
import os

from mooncake.engine import TransferEngine

SIZE = 4 << 30
PART = 64 << 20
MAP_FIXED = 0x10

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]


def map_memory(address, size, protection, flags, file):
    mapped = libc.mmap(address, size, protection, flags, file, 0)
    if mapped == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
    return mapped


file = os.memfd_create("buffer")
os.truncate(file, PART)
buffer = map_memory(None, SIZE, mmap.PROT_READ, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1)
for offset in range(0, SIZE, PART):
    map_memory(buffer + offset, PART, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | MAP_FIXED, file)

engine = TransferEngine()
print("initialize", engine.initialize("127.0.0.1", "P2PHANDSHAKE", "rdma", "rxe0"))
print("register_memory", engine.register_memory(buffer, SIZE))
print("unregister_memory", engine.unregister_memory(buffer))
