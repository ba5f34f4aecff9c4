"""Four clients of Mooncake's store in one process, a thread for each: all set up their memory at once, which registers it.
Then values go from one to another. Prints the return codes. Needs a mooncake_master on port 50051.

All use the same device: Soft-RoCE devices of different networks do not reach each other.
"""

import threading

from mooncake.store import MooncakeDistributedStore

CLIENTS = 4

stores = [MooncakeDistributedStore() for _ in range(CLIENTS)]
codes = [None] * CLIENTS
together = threading.Barrier(CLIENTS)


def setup(number):
    together.wait()
    codes[number] = stores[number].setup(
        "127.0.0.1", "P2PHANDSHAKE", 64 << 20, 16 << 20, "rdma", "rxe0", "127.0.0.1:50051"
    )


threads = [threading.Thread(target=setup, args=(number,)) for number in range(CLIENTS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("setup", *codes)
values = {f"key{number}": bytes([number]) * (1 << 20) for number in range(8)}
for number, (key, value) in enumerate(values.items()):
    print("put", key, stores[number % CLIENTS].put(key, value))
for number, (key, value) in enumerate(values.items()):
    print("get", key, stores[(number + 1) % CLIENTS].get(key) == value)
for store in stores:
    print("close", store.close())
