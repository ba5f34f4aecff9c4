"""Eight engines in one process, a Python thread for each: all initialize at once, then all register at once.

Prints the return codes, in the order of the engines.
"""

import ctypes
import threading

from mooncake.engine import TransferEngine

ENGINES = 8
SIZE = 4 << 20

together = threading.Barrier(ENGINES)
codes = [[] for _ in range(ENGINES)]


def work(number):
    engine = TransferEngine()
    buffers = [ctypes.create_string_buffer(SIZE) for _ in range(2)]
    addresses = [ctypes.addressof(buffer) for buffer in buffers]
    together.wait()
    codes[number].append(engine.initialize("127.0.0.1", "P2PHANDSHAKE", "rdma", ""))
    together.wait()
    codes[number].append(engine.batch_register_memory(addresses, [SIZE] * len(addresses)))
    codes[number].append(engine.batch_unregister_memory(addresses))


threads = [threading.Thread(target=work, args=(number,)) for number in range(ENGINES)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for number, returned in enumerate(codes):
    print("engine", number, *returned)
