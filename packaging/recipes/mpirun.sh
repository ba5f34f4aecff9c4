#!/bin/sh
# mpirun.sh OPTION... COMMAND...: mpirun of Open MPI, and the library in every rank, on every node. mrlock is installed on all
# nodes, in the same place.
#
# -x passes a variable on to other nodes, where the environment of this shell does not reach. The launchers there do not load
# the library: they start before it is set.
exec mpirun -x LD_PRELOAD="${LIBRARY:-/usr/lib/x86_64-linux-gnu/libmrlock.so.0}" \
    -x MRLOCK_MEMORY=device "$@"
