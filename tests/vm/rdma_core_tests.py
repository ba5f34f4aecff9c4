"""Runs rdma-core's own tests, of its Python bindings: rdma_core_tests.py DIRECTORY NETWORK_DEVICE ARGUMENT...

DIRECTORY holds the tests as Debian's python3-pyverbs brings them. They look for the network device of an RDMA device in
sysfs, where Soft-RoCE has none, so they are told.
"""

import os
import runpy
import sys

directory, network = sys.argv[1:3]
sys.argv[:] = [os.path.join(directory, "run_tests.py"), *sys.argv[3:]]
sys.path.insert(0, directory)
sys.path.insert(0, os.path.dirname(directory))

import tests.base


def addresses(self, device, port, index):
    self.args.append([device, port, index, *self.get_ip_mac_address(network)])


tests.base.RDMATestCase._get_ip_mac = addresses
runpy.run_path(sys.argv[0], run_name="__main__")
