"""For which machines the wheel is: for any Python 3 on one processor with glibc 2.17 or newer, as `make dist` builds the library."""

from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):
    def initialize(self, version, build_data):
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-manylinux_2_17_" + Path(self.root, "PROCESSOR").read_text().strip()
