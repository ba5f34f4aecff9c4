"""workers.py alone|recipe METHOD: says whether a worker of multiprocessing has the library, alone or with the recipe."""

import importlib.util
import multiprocessing
import os
import sys


def look():
    with open("/proc/self/maps") as maps:
        found = "/libmrlock.so" in maps.read()
    print("the worker has", "the library" if found else "no library", flush=True)


if __name__ == "__main__":
    how, method = sys.argv[1:]
    if how == "recipe":
        # By its path: its name is that of the module that it uses.
        path = os.path.join(os.environ["RECIPES"], "multiprocessing.py")
        spec = importlib.util.spec_from_file_location("recipe", path)
        recipe = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(recipe)
        worker = recipe.start(method, look)
    else:
        worker = multiprocessing.get_context(method).Process(target=look)
        worker.start()
    worker.join()
    sys.exit(worker.exitcode)
