"""A thread waits in mrlock_lock() for another one, which needs Python's GIL to unlock: gil.py CDLL|PyDLL

A function of ctypes.CDLL releases the GIL during the call; one of ctypes.PyDLL keeps it.
"""

import ctypes
import signal
import sys
import threading

FUTEX = "202"

mrlock = getattr(ctypes, sys.argv[1])(None)
main_thread = threading.get_native_id()
inside, calling = threading.Event(), False


def is_asleep():
    with open(f"/proc/self/task/{main_thread}/syscall") as call:
        return call.read().split()[0] == FUTEX


def hold():
    mrlock.mrlock_lock()
    inside.set()
    while not (calling and is_asleep()):
        pass
    mrlock.mrlock_unlock()


signal.alarm(int(sys.argv[2]))
holder = threading.Thread(target=hold)
holder.start()
inside.wait()
calling = True
mrlock.mrlock_lock()
mrlock.mrlock_unlock()
holder.join()
print("done")
