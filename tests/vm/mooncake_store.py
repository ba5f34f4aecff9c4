"""Puts values into Mooncake's store and gets them back. Prints the return codes. Needs a mooncake_master on port 50051.

One device: Soft-RoCE devices of different networks do not reach each other.
"""

from mooncake.store import MooncakeDistributedStore

store = MooncakeDistributedStore()
print("setup", store.setup("127.0.0.1", "P2PHANDSHAKE", 64 << 20, 16 << 20, "rdma", "rxe0", "127.0.0.1:50051"))
values = {f"key{number}": bytes([number]) * (1 << 20) for number in range(8)}
for key, value in values.items():
    print("put", key, store.put(key, value))
for key, value in values.items():
    print("get", key, store.get(key) == value)
print("close", store.close())
