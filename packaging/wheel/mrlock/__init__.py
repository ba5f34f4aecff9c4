"""Where libmrlock.so is, and the environment to start a process with it."""

import importlib.metadata
import os

__all__ = ["env", "library"]


def library() -> str:
    """The path of the installed library."""
    for file in importlib.metadata.files("mrlock") or []:
        if file.name == "libmrlock.so.0":
            path = os.path.realpath(file.locate())
            if os.path.exists(path):
                return path
            raise FileNotFoundError(f"{path} is missing: install mrlock again, and without pip's --target")
    raise FileNotFoundError("the installed package mrlock has no libmrlock.so.0: install mrlock again")


def env() -> "dict[str, str]":
    """A copy of os.environ in which LD_PRELOAD names the library, ahead of others that it named."""
    path = library()
    if " " in path or ":" in path:
        raise ValueError(f"{path}: LD_PRELOAD takes no path with a blank or a colon: install mrlock elsewhere")
    others = os.environ.get("LD_PRELOAD", "").replace(":", " ").split()
    return {**os.environ, "LD_PRELOAD": ":".join([path, *(other for other in others if other != path)])}
