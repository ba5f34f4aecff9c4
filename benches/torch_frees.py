"""torch_frees.py LIBMRLOCK FIXTURES: what a loop of torch that allocates and frees GPU memory takes while another thread registers
host memory, with mrlock as a ratio of without. Needs an NVIDIA GPU, and torch. The registrations are those of the fake
libibverbs, 10 ms each.
"""

import ctypes
import os
import statistics
import subprocess
import sys
import threading
import time

ROUNDS, FREES = 25, 400
HOST_BYTES = 64 << 20


def register_until(ended):
    ctypes.CDLL("libibverbs.so.1", ctypes.RTLD_GLOBAL)
    verbs = ctypes.CDLL(None)
    pointer = ctypes.c_void_p
    for function in ("ibv_get_device_list", "ibv_open_device", "ibv_alloc_pd", "ibv_reg_mr"):
        getattr(verbs, function).restype = pointer
    devices = ctypes.cast(pointer(verbs.ibv_get_device_list(None)), ctypes.POINTER(pointer))
    domain = pointer(verbs.ibv_alloc_pd(pointer(verbs.ibv_open_device(pointer(devices[0])))))
    memory = ctypes.create_string_buffer(HOST_BYTES)
    calls = 0
    while not ended.is_set():
        region = verbs.ibv_reg_mr(domain, memory, ctypes.c_size_t(HOST_BYTES), 1)
        assert region and verbs.ibv_dereg_mr(pointer(region)) == 0
        calls += 1
    assert calls, "no registration was under way"


def loop():
    import torch

    torch.empty(1, device="cuda")
    ended = threading.Event()
    other = threading.Thread(target=register_until, args=(ended,))
    other.start()
    time.sleep(0.1)
    start = time.monotonic()
    for _ in range(FREES):
        block = torch.empty(64 << 20, dtype=torch.uint8, device="cuda")
        del block
        torch.cuda.empty_cache()
    print((time.monotonic() - start) / FREES)
    ended.set()
    other.join()


def main(library, fixtures):
    environment = dict(os.environ, FAKE_IBV_RACE="count", FAKE_IBV_HOLD_US="10000", LD_LIBRARY_PATH=f"{fixtures}/lib")
    taken = {"": [], library: []}
    for _ in range(ROUNDS):
        for preload, times in taken.items():
            command = [sys.executable, __file__]
            output = subprocess.run(command, env=environment | {"LD_PRELOAD": preload}, check=True, capture_output=True, text=True)
            times.append(float(output.stdout))
    without, with_mrlock = (statistics.median(times) for times in taken.values())
    print(f"one allocation and free: {without * 1e6:.1f} us without, {with_mrlock * 1e6:.1f} us with, ratio {with_mrlock / without:.3f}")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        loop()
    else:
        main(*(os.path.abspath(argument) for argument in sys.argv[1:]))
