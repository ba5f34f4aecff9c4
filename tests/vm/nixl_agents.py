"""Six nixl agents in one process, a thread for each: all register their buffers at once. Then one writes to another.

nixl_agents.py nixl_cu12|nixl_cu13 [mooncake]: with the second argument, an engine of Mooncake registers at the same time. nixl
brings a libibverbs of its own, so that there are two in the process. Prints the results, in the order of the agents.
"""

import ctypes
import importlib
import mmap
import os
import sys
import threading

nixl = importlib.import_module(sys.argv[1])

AGENTS = 6
BUFFERS = 4
SIZE = 4 << 20
ROUNDS = 3


def buffer():
    memory = mmap.mmap(-1, SIZE)
    return memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))


def mooncake():
    from mooncake.engine import TransferEngine

    engine = TransferEngine()
    print("initialize", engine.initialize("127.0.0.1", "P2PHANDSHAKE", "rdma", ""))
    buffers = [buffer() for _ in range(BUFFERS)]
    addresses = [address for _, address in buffers]

    def run():
        registered = engine.batch_register_memory(addresses, [SIZE] * len(addresses))
        return registered, engine.batch_unregister_memory(addresses)

    # The function owns the memory until the process ends.
    run.buffers = buffers
    return run


agents = [nixl.nixl_agent(f"agent{number}", nixl.nixl_agent_config(enable_prog_thread=False, backends=["UCX"])) for number in range(AGENTS)]
memory = [[buffer() for _ in range(BUFFERS)] for _ in agents]


def register(number):
    def run():
        rows = [(address, SIZE, 0, "") for _, address in memory[number]]
        registered = agents[number].register_memory(rows, "DRAM")
        agents[number].deregister_memory(registered)
        return len(rows)

    return run


users = {f"agent{number}": register(number) for number in range(AGENTS)}
if "mooncake" in sys.argv:
    users["mooncake"] = mooncake()
returned = {name: [] for name in users}
together = threading.Barrier(len(users))


def work(name):
    for _ in range(ROUNDS):
        together.wait()
        returned[name].append(users[name]())


threads = [threading.Thread(target=work, args=(name,)) for name in users]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for name in users:
    print(name, *returned[name])

sender, receiver = agents[:2]
memory[0][0][0][:] = b"\x2a" * SIZE
rows = [[(memory[number][0][1], SIZE, 0, "")] for number in (0, 1)]
registered = [agent.register_memory(row, "DRAM") for agent, row in zip((sender, receiver), rows)]
remote = sender.add_remote_agent(receiver.get_agent_metadata())
ends = [sender.get_xfer_descs([row[:3] for row in side], "DRAM") for side in rows]
handle = sender.initialize_xfer("WRITE", *ends, remote, b"")
state = sender.transfer(handle)
while state == "PROC":
    receiver.get_new_notifs()
    state = sender.check_xfer_state(handle)
print("write", state, memory[1][0][0][:] == memory[0][0][0][:])
sender.release_xfer_handle(handle)
for agent, rows in zip((sender, receiver), registered):
    agent.deregister_memory(rows)

with open("/proc/self/maps") as maps:
    files = {os.path.basename(line.split()[-1]) for line in maps if "libibverbs" in line}
print("libibverbs", *sorted(files))

# nixl 1.5.1 crashes, and sometimes hangs, in the destructors at exit, without mrlock too.
sys.stdout.flush()
os._exit(0)
