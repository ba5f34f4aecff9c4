"""A program that starts its workers with the library, where nothing started the program itself with it.

`mrlock run python3 program.py` needs none of this: workers inherit the library, however they are started. torchrun is
such a program too: `mrlock run --gpu -- torchrun --nproc-per-node 8 train.py`.
"""

import multiprocessing
import os

import mrlock


def start(method, target, *arguments):
    """Starts a worker that has the library."""
    if method == "fork":
        raise ValueError("a forked worker has the libraries of its parent: start the parent with mrlock run")
    # Programs that are started from now on: the worker, or the server that forks it.
    os.environ.update(mrlock.env())
    worker = multiprocessing.get_context(method).Process(target=target, args=arguments)
    worker.start()
    return worker
