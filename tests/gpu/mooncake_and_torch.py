"""Mooncake registers torch's GPU memory while torch frees other GPU memory: mooncake_and_torch.py LIBMRLOCK FIXTURES

Mooncake's own wheel and torch, unmodified, on the fake libibverbs as four devices, first without mrlock and then with it. Exit
status 0: calls on GPU memory and frees met without mrlock, and did not with it. Prints how often.
"""

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import threading

DEVICES = [f"mlx5_{number}" for number in range(4)]
BUFFERS = 8
SIZE = 64 << 20  # a block of its own, which torch gives back to the driver
ROUNDS = 20
FREEING = 4


class Witness(ctypes.Structure):
    """As in witness.h."""

    _fields_ = [(name, ctypes.c_ulong) for name in ("registrations", "frees", "meetings")]


def work():
    import torch  # before Mooncake: it brings CUDA's runtime
    from mooncake.engine import TransferEngine

    def blocks(number):
        return [torch.empty(SIZE, dtype=torch.uint8, device="cuda") for _ in range(number)]

    engine = TransferEngine()
    status = engine.initialize("127.0.0.1", "P2PHANDSHAKE", "rdma", "")
    assert status == 0, f"initialize: {status}"
    registered = blocks(BUFFERS)
    addresses = [block.data_ptr() for block in registered]
    done = threading.Event()

    def free():
        while not done.is_set():
            blocks(2)
            torch.cuda.empty_cache()

    threads = [threading.Thread(target=free) for _ in range(FREEING)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(ROUNDS):
            status = engine.batch_register_memory(addresses, [SIZE] * BUFFERS)
            assert status == 0, f"batch_register_memory: {status}"
            status = engine.batch_unregister_memory(addresses)
            assert status == 0, f"batch_unregister_memory: {status}"
    finally:
        done.set()
        for thread in threads:
            thread.join()
    witness = Witness.in_dll(ctypes.CDLL(None), "witness")
    print(json.dumps({name: getattr(witness, name) for name, _ in Witness._fields_}))


def run(preload, fixtures):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as topology:
        # Mooncake looks for other devices in /dev.
        json.dump({place: [DEVICES, []] for place in ("cpu:0", "cuda:0")}, topology)
        topology.flush()
        settings = {
            "LD_PRELOAD": ":".join(preload),
            "LD_LIBRARY_PATH": ":".join(filter(None, [f"{fixtures}/engine", os.environ.get("LD_LIBRARY_PATH")])),
            "FAKE_IBV_RACE": "count",
            "FAKE_IBV_HOLD_US": "1000",
            "MC_CUSTOM_TOPO_JSON": topology.name,
            "WITH_NVIDIA_PEERMEM": "1",
        }
        command = [sys.executable, os.path.abspath(__file__)]
        child = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True)
    lines = child.stdout.splitlines()
    if child.returncode or not lines:
        sys.exit(f"mooncake_and_torch.py: status {child.returncode}\n{child.stdout}{child.stderr}")
    return json.loads(lines[-1])


def main(library, fixtures):
    witness = [f"{fixtures}/gpu/witness.so", f"{fixtures}/engine/libibverbs.so.1"]
    wrong = False
    for name, preload in ("without mrlock", witness), ("with mrlock", [library, *witness]):
        seen = run(preload, fixtures)
        print(f"{name}: {seen['registrations']} registrations and deregistrations, {seen['frees']} frees, met {seen['meetings']} times")
        meet = name == "without mrlock"
        wrong |= not seen["registrations"] or not seen["frees"] or (seen["meetings"] > 0) != meet
    return wrong


if len(sys.argv) == 1:
    work()
else:
    sys.exit(main(*sys.argv[1:]))
