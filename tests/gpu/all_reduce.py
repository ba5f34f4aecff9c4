"""Two processes with a GPU each: all_reduce.py TIMES

They initialize NCCL, all-reduce, and allocate GPU memory and give it back. Prints the sums. The times, in microseconds, go
to the file TIMES: each initialization's, and the median of every other step.
"""

import itertools
import json
import os
import statistics
import sys
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

GPUS = 2
INITIALIZATIONS = 5


def microseconds(step):
    torch.cuda.synchronize()
    since = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return (time.perf_counter() - since) * 1e6


def median(step, rounds):
    return [statistics.median(microseconds(step) for _ in range(rounds))]


def allocate_and_give_back():
    blocks = [torch.empty(64 << 20, dtype=torch.uint8, device="cuda") for _ in range(8)]
    del blocks
    torch.cuda.empty_cache()


def work(rank, port, file):
    torch.cuda.set_device(rank)
    torch.zeros(1, device="cuda")
    times = {}
    ports = itertools.count(port)

    def initialize():
        dist.init_process_group(
            "nccl",
            init_method=f"tcp://127.0.0.1:{next(ports)}",
            rank=rank,
            world_size=GPUS,
            device_id=torch.device("cuda", rank),
        )
        dist.all_reduce(torch.ones(1, device="cuda"))

    # The first one also loads what CUDA and NCCL load once.
    initialize()
    times["initialization"] = []
    for _ in range(INITIALIZATIONS):
        dist.destroy_process_group()
        times["initialization"].append(microseconds(initialize))
    for name, elements, rounds in ("512 MiB", 128 << 20, 30), ("4 KiB", 1 << 10, 2000):
        numbers = torch.full((elements,), float(rank + 1), device="cuda")
        dist.all_reduce(numbers)
        if rank == 0:
            print(f"all-reduce of {name}: {numbers.min().item()} to {numbers.max().item()}")
        times[f"all-reduce of {name}"] = median(lambda: dist.all_reduce(numbers), rounds)
        del numbers
    dist.barrier()
    times["8 x 64 MiB allocated and given back"] = median(allocate_and_give_back, 30)
    dist.barrier()
    dist.destroy_process_group()
    if rank == 0:
        with open(file, "w") as out:
            json.dump(times, out)


if __name__ == "__main__":
    mp.spawn(work, (20000 + os.getpid() % 1000 * 10, sys.argv[1]), nprocs=GPUS)
