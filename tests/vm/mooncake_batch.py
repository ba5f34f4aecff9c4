"""Registers 16 buffers in one batch_register_memory: Mooncake takes a thread for each. Prints the return codes."""

import ctypes

from mooncake.engine import TransferEngine

SIZE = 4 << 20

engine = TransferEngine()
print("initialize", engine.initialize("127.0.0.1", "P2PHANDSHAKE", "rdma", ""))

buffers = [ctypes.create_string_buffer(SIZE) for _ in range(16)]
addresses = [ctypes.addressof(buffer) for buffer in buffers]
print("batch_register_memory", engine.batch_register_memory(addresses, [SIZE] * len(addresses)))
print("batch_unregister_memory", engine.batch_unregister_memory(addresses))
