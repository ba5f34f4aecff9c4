"""Registers one buffer at a time. Under MC_ENABLE_PARALLEL_REG_MR=1 Mooncake takes a thread for each device.

Prints the return codes.
"""

import ctypes

from mooncake.engine import TransferEngine

SIZE = 4 << 20

engine = TransferEngine()
print("initialize", engine.initialize("127.0.0.1", "P2PHANDSHAKE", "rdma", ""))

buffers = [ctypes.create_string_buffer(SIZE) for _ in range(4)]
for buffer in buffers:
    print("register_memory", engine.register_memory(ctypes.addressof(buffer), SIZE))
for buffer in buffers:
    print("unregister_memory", engine.unregister_memory(ctypes.addressof(buffer)))
