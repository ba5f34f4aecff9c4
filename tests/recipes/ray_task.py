"""Asks a worker of the running Ray cluster whether it has the library."""

import ray

ray.init(address="auto", logging_level="error")


@ray.remote
def look():
    with open("/proc/self/maps") as maps:
        return "/libmrlock.so" in maps.read()


print("the worker has", "the library" if ray.get(look.remote()) else "no library")
