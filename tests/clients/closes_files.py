# closes_files.py LIBRARY FILE: closes every descriptor but the first three, as a daemon does, between two sections, and opens
# FILE in the place of each.
import ctypes
import os
import sys

library = ctypes.CDLL(sys.argv[1])
library.mrlock_lock()
library.mrlock_unlock()
os.closerange(3, 1024)
flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
files = [os.open(sys.argv[2], flags) for _ in range(64)]
library.mrlock_lock()
library.mrlock_unlock()
for file in files:
    os.write(file, b"own\n")
