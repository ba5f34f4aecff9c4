"""Where libmrlock.so is, and the environment to start a process with it."""

import importlib.metadata
import os
import subprocess

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
    path = _name_for_preload(library())
    others = os.environ.get("LD_PRELOAD", "").replace(":", " ").split()
    return {**os.environ, "LD_PRELOAD": ":".join([path, *(other for other in others if other != path)])}


def _name_for_preload(path: str) -> str:
    """`path`, or the name that `mrlock run` uses where LD_PRELOAD cannot hold it."""
    if not any(character in path for character in " :$"):
        return path
    command = os.path.join(os.path.dirname(os.path.dirname(path)), "bin", "mrlock")
    shown = subprocess.run([command, "path"], capture_output=True)
    if shown.returncode:
        raise ValueError(os.fsdecode(shown.stderr).strip())
    return os.fsdecode(shown.stdout).rstrip("\n")
