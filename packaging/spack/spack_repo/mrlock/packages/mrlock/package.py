# To build the clone that this file is in:
#
#     spack repo add packaging/spack/spack_repo/mrlock && spack install mrlock
#
# `spack audit packages` of Spack 0.23 has checked it, with MakefilePackage from where that version
# has it; it found that it does not know the virtual package c, which came later. Spack has not
# built it yet.
import os

from spack_repo.builtin.build_systems.makefile import MakefilePackage

from spack.package import *


class Mrlock(MakefilePackage):
    """Lets one thread at a time register RDMA memory: a preload library for ibv_reg_mr and its
    relatives, for programs that register GPU memory from several threads, and the command that
    runs a program with it."""

    # The clone that this file is in. For Spack's own repository: the address of the releases.
    git = "file://" + os.path.realpath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 6))

    license("MIT OR Apache-2.0")

    version("main", branch="main")

    depends_on("c", type="build")
    depends_on("rust@1.90:", type="build")
    # GNU ld refuses the library's version script beside that of rustc.
    depends_on("llvm+lld", type="build")

    requires("platform=linux", msg="it is preloaded by ld.so of Linux")
    requires(
        "target=x86_64:",
        "target=aarch64:",
        policy="one_of",
        msg="it has code for x86_64 and aarch64 alone",
    )

    build_targets = ["release"]

    @property
    def install_targets(self):
        return ["install", f"PREFIX={self.prefix}"]

    @run_after("install")
    @on_package_attributes(run_tests=True)
    def runs_a_program(self):
        Executable(self.prefix.bin.mrlock)("run", "--", "true")
