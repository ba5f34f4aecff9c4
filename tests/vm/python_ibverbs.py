"""Eight threads register at once, by the package ibverbs of PyPI: it binds libibverbs by dlsym, and releases the GIL meanwhile."""

import ctypes
import mmap
import threading

import ibverbs

THREADS = 8
SIZE = 8 << 20
ROUNDS = 3

devices = ibverbs.get_device_list()
together = threading.Barrier(THREADS)
lengths = [[] for _ in range(THREADS)]


def register(number):
    memory = mmap.mmap(-1, SIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    domain = devices[number % len(devices)].open().alloc_pd()
    for _ in range(ROUNDS):
        together.wait()
        region = domain.reg_mr(address, SIZE, ibverbs.AccessFlags.LOCAL_WRITE)
        lengths[number].append(region.length)
        region.close()


threads = [threading.Thread(target=register, args=(number,)) for number in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(*lengths)
