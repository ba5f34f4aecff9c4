"""Different users of verbs in one process, all at once: at_once.py CLIENTS USER...

Prints what each returned. The threads of each are named after it: the kernel's trace has the names.
"""

import ctypes
import sys
import threading

SIZE = 4 << 20
THREADS = 4
ROUNDS = 3
PR_SET_NAME = 15


def mooncake():
    from mooncake.engine import TransferEngine

    engine = TransferEngine()
    print("initialize", engine.initialize("127.0.0.1", "P2PHANDSHAKE", "rdma", ""))
    buffers = [ctypes.create_string_buffer(SIZE) for _ in range(16)]
    addresses = [ctypes.addressof(buffer) for buffer in buffers]

    def run():
        registered = engine.batch_register_memory(addresses, [SIZE] * len(addresses))
        return registered, engine.batch_unregister_memory(addresses)

    # The function owns the memory until the process ends.
    run.buffers = buffers
    return run


def plugin(file):
    library = ctypes.CDLL(file)
    unused = ctypes.byref(ctypes.c_uint())
    # Alone first: a libibverbs keeps its drivers in a list, without a lock against another copy's loading of them.
    print("alone", library.plugin_run(1, unused))
    return lambda: library.plugin_run(THREADS, unused)


def handle(file, *arguments):
    arguments = [b"dlopen_verbs", *arguments, str(THREADS).encode()]
    argv = (ctypes.c_char_p * (len(arguments) + 1))(*arguments)
    library = ctypes.CDLL(file)
    return lambda: library.main(len(arguments), argv)


clients, *names = sys.argv[1:]
users = {
    "mooncake": mooncake,
    "linked": lambda: plugin(f"{clients}/plugin.so"),
    "second": lambda: plugin(f"{clients}/second/plugin.so"),
    "static": lambda: plugin(None),
    "dlvsym": lambda: handle(f"{clients}/dlvsym.so"),
    "second_dlvsym": lambda: handle(f"{clients}/second/dlvsym.so"),
    "dlsym": lambda: handle(f"{clients}/dlsym.so", b"-s"),
}
runs = {name: users[name]() for name in names}
returned = {name: [] for name in names}
together = threading.Barrier(len(names))


def work(name):
    # The threads that it starts inherit the name.
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode())
    for _ in range(ROUNDS):
        together.wait()
        returned[name].append(runs[name]())


threads = [threading.Thread(target=work, args=(name,)) for name in names]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for name in names:
    print(name, *returned[name])
