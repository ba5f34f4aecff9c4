#!/bin/sh
# nixl-cu12 1.5.1 and libucx-cu12 1.22.0 (the UCX of ucxx and Dask) in one process: two copies of UCX. The names of nixl's are
# changed, and it loads its own with RTLD_DEEPBIND, so their symbols do not meet. But both write a jump over the first bytes of libc's
# munmap(), to learn that registered memory goes away, and the copy that comes second replaces the jump of the first. Nothing is
# logged. From then on the first copy keeps registrations of memory that was unmapped, and takes them for new memory at that address.
# It needs no more than a context of the second copy (ucp_init()); this one need not use RDMA, nor know its devices.
#
# Seen on 2026-11-28, ucm_test_events(UCM_EVENT_VM_UNMAPPED) of each copy: 0 if it hears of munmap(), else -22:
#   nixl's agent:                nixl's 0
#   then the other's ucp_init(): nixl's -22, the other's 0
#   then another agent:          nixl's -22, the other's 0
# and, not part of this script, on Soft-RoCE (Linux 6.1, UCX_TLS=rc_v,self): a buffer of 4 MiB full of 1, registered, written to
# another agent, deregistered and unmapped; then a new one at the same address, full of 2, the same way. Both writes end with DONE.
# With nixl alone 2 arrives; after the other's ucp_init() 1 does, the bytes of the old pages. UCX_MEM_EVENTS=n or UCX_RCACHE_ENABLE=n,
# which turn the cache off, let 2 arrive.
#
# Needs Python 3.11 and pip. Ends with 0 if that is still so.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
/usr/bin/python3 -m pip install --quiet --no-deps --disable-pip-version-check --root-user-action=ignore --only-binary=:all: \
    --target "$work" nixl-cu12==1.5.1 libucx-cu12==1.22.0 numpy==2.3.5
cat >"$work/ask.py" <<'END'
import ctypes, glob, os, sys
import nixl_cu12 as nixl

UCM_EVENT_VM_UNMAPPED = 1 << 17
directory = sys.path[0]


def hears(copy):
    (library,) = glob.glob(f"{directory}/{copy}")
    return ctypes.CDLL(library).ucm_test_events(UCM_EVENT_VM_UNMAPPED)


def both():
    return f"nixl's {hears('nixl_cu12.libs/libucm-*')}, the other's {hears('libucx/lib/libucm.so.0')}"


def agent(name):
    return nixl.nixl_agent(name, nixl.nixl_agent_config(enable_prog_thread=False, backends=["UCX"]))


first = agent("first")
print(f"nixl's {hears('nixl_cu12.libs/libucm-*')}")
ucp = ctypes.CDLL(f"{directory}/libucx/lib/libucp.so.0")
configuration, context = ctypes.c_void_p(), ctypes.c_void_p()
ucp.ucp_config_read(None, None, ctypes.byref(configuration))
# ucp_params_t: field_mask UCP_PARAM_FIELD_FEATURES, features UCP_FEATURE_TAG | UCP_FEATURE_RMA
parameters = (ctypes.c_uint64 * 64)(1, 3)
if ucp.ucp_init_version(1, 22, parameters, configuration, ctypes.byref(context)):
    sys.exit("ucp_init failed")
print(both())
second = agent("second")
print(both())
sys.stdout.flush()
os._exit(0)
END
env -u LD_LIBRARY_PATH NIXL_LOG_LEVEL=ERROR /usr/bin/python3 "$work/ask.py" >"$work/answers" 2>"$work/errors" ||
    { cat "$work/answers" "$work/errors"; exit 2; }
cat "$work/answers"
printf "nixl's 0\nnixl's -22, the other's 0\nnixl's -22, the other's 0\n" | cmp -s - "$work/answers"
