"""Registers in four threads, and meanwhile in processes of both ways to start them: multiprocessing_workers.py fork|spawn

Needs a libibverbs in the global scope.
"""

import ctypes
import multiprocessing
import sys
import threading

SIZE = 65536
ROUNDS = 20

ctypes.CDLL("libibverbs.so.1", mode=ctypes.RTLD_GLOBAL)
verbs = ctypes.CDLL(None)
pointer, integer = ctypes.c_void_p, ctypes.c_int
for name, result, arguments in (
    ("ibv_get_device_list", ctypes.POINTER(pointer), (pointer,)),
    ("ibv_open_device", pointer, (pointer,)),
    ("ibv_alloc_pd", pointer, (pointer,)),
    ("ibv_reg_mr", pointer, (pointer, pointer, ctypes.c_size_t, integer)),
    ("ibv_dereg_mr", integer, (pointer,)),
):
    function = getattr(verbs, name)
    function.restype, function.argtypes = result, arguments


def register(number):
    devices = verbs.ibv_get_device_list(None)
    domain = verbs.ibv_alloc_pd(verbs.ibv_open_device(devices[number % 4]))
    buffer = ctypes.create_string_buffer(SIZE)
    registered = 0
    for _ in range(ROUNDS):
        region = verbs.ibv_reg_mr(domain, buffer, SIZE, 1)
        registered += bool(region) and verbs.ibv_dereg_mr(region) == 0
    return registered


enough = threading.Event()


def keep_registering(number):
    while True:
        assert register(number) == ROUNDS
        if enough.is_set():
            return


if __name__ == "__main__":
    threads = [threading.Thread(target=keep_registering, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    with multiprocessing.get_context(sys.argv[1]).Pool(3) as pool:
        print(sys.argv[1], pool.map(register, range(12)))
    enough.set()
    for thread in threads:
        thread.join()
