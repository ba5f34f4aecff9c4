"""Runs all_reduce.py without mrlock and with it: nccl.py LIBMRLOCK

Its output must be the same, and nothing on stderr. Prints the times, in microseconds: the median, the shortest and the
longest.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile

ROUNDS = 6
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
    times = {name: {} for name in settings}
    expected = None
    with tempfile.NamedTemporaryFile() as file:
        # In turn, so that a drift of the machine changes all times alike, and each is first as often as the others.
        for number in range(1 + ROUNDS):
            names = list(settings)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                run = subprocess.run(
                    [sys.executable, CLIENT, file.name],
                    env=os.environ | settings[name],
                    capture_output=True,
                    text=True,
                )
                expected = expected or run.stdout
                if run.returncode or run.stderr or run.stdout != expected:
                    return f"nccl.py: {name}: status {run.returncode}\n{run.stdout}{run.stderr}"
                with open(file.name) as written:
                    took = json.load(written)
                # The first round is to warm up.
                for step in took if number else ():
                    times[name].setdefault(step, []).extend(took[step])
    print(expected, end="")
    for step, alone in times["alone"].items():
        print(f"{step}, {len(alone)} times:")
        for name in settings:
            each = times[name][step]
            median = statistics.median(each)
            ratio = median / statistics.median(alone)
            print(f"    {name}: {median:.1f} ({min(each):.1f} to {max(each):.1f}), ratio {ratio:.3f}")


sys.exit(main(sys.argv[1]))
