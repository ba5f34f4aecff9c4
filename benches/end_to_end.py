"""Times how long Mooncake takes to register 16 buffers: end_to_end.py batch|threads [locked]

batch: in one call. threads: in a call for each, by a Python thread for each. locked: with a Python lock around each call.
Prints the seconds, a line for each round.
"""

import contextlib
import ctypes
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from mooncake.engine import TransferEngine

SIZE = 4 << 20
BUFFERS = 16
ROUNDS = 10

lock = threading.Lock() if "locked" in sys.argv else contextlib.nullcontext()
engine = TransferEngine()
pool = ThreadPoolExecutor(BUFFERS)
buffers = [ctypes.create_string_buffer(SIZE) for _ in range(BUFFERS)]
addresses = [ctypes.addressof(buffer) for buffer in buffers]


def call(function, *arguments):
    with lock:
        code = function(*arguments)
    if code != 0:
        sys.exit(f"{function.__name__} returned {code}")


def batch():
    call(engine.batch_register_memory, addresses, [SIZE] * BUFFERS)


def threads():
    list(pool.map(lambda address: call(engine.register_memory, address, SIZE), addresses))


register = {"batch": batch, "threads": threads}[sys.argv[1]]
call(engine.initialize, "127.0.0.1", "P2PHANDSHAKE", "rdma", "")
for _ in range(ROUNDS):
    start = time.perf_counter()
    register()
    print(time.perf_counter() - start)
    call(engine.batch_unregister_memory, addresses)
