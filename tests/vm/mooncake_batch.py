"""Registers 16 buffers in one batch_register_memory: Mooncake takes a thread for each. Prints the return codes.

mooncake_batch.py NAME FIFO: its threads have this name, and it begins, three times, when something was written to FIFO.
"""

import ctypes
import sys

from mooncake.engine import TransferEngine

SIZE = 4 << 20
PR_SET_NAME = 15

name, fifo = sys.argv[1:] or (None, None)
if name:
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode())
engine = TransferEngine()
print("initialize", engine.initialize("127.0.0.1", "P2PHANDSHAKE", "rdma", ""))

buffers = [ctypes.create_string_buffer(SIZE) for _ in range(16)]
addresses = [ctypes.addressof(buffer) for buffer in buffers]
if fifo:
    open(fifo).read()
for _ in range(3 if fifo else 1):
    print("batch_register_memory", engine.batch_register_memory(addresses, [SIZE] * len(addresses)))
    print("batch_unregister_memory", engine.batch_unregister_memory(addresses))
