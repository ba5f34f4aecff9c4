"""Runs all_reduce.py without mrlock and with it: nccl.py LIBMRLOCK

Its output must be the same, and nothing on stderr. Prints the times, in microseconds: the median of ROUNDS runs, the
shortest and the longest.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile

ROUNDS = 4
CLIENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "all_reduce.py")


def main(library):
    try:
        import torch
    except ImportError as error:
        return f"nccl.py: {error}: this test needs a python3 with torch"
    if torch.cuda.device_count() < 2:
        return f"nccl.py: this test needs two GPUs, and there are {torch.cuda.device_count()}"

    settings = {
        "alone": {},
        "mrlock": {"LD_PRELOAD": library},
        "mrlock, device and free": {
            "LD_PRELOAD": library,
            "MRLOCK_MEMORY": "device",
            "MRLOCK_CALLS": "reg,dereg,free",
        },
    }
    times = {name: [] for name in settings}
    expected = None
    with tempfile.NamedTemporaryFile() as file:
        # In turn, so that a drift of the machine changes all times alike. The first round is to warm up.
        for _ in range(1 + ROUNDS):
            for name, variables in settings.items():
                run = subprocess.run(
                    [sys.executable, CLIENT, file.name],
                    env=os.environ | variables,
                    capture_output=True,
                    text=True,
                )
                expected = expected or run.stdout
                if run.returncode or run.stderr or run.stdout != expected:
                    return f"nccl.py: {name}: status {run.returncode}\n{run.stdout}{run.stderr}"
                with open(file.name) as written:
                    times[name].append(json.load(written))
    print(expected, end="")
    for step in times["alone"][0]:
        print(f"{step}:")
        alone = None
        for name, rounds in times.items():
            each = [round[step] for round in rounds[1:]]
            median = statistics.median(each)
            alone = alone or median
            print(f"    {name}: {median:.1f} ({min(each):.1f} to {max(each):.1f}), ratio {median / alone:.3f}")


sys.exit(main(sys.argv[1]))
