"""draft"""

import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import pytest


class P:
    def pytest_configure(self, config):
        from allennlp.common.util import import_module_and_submodules

        import_module_and_submodules("regattn_allennlp")
        connect, getaddrinfo = socket.socket.connect, socket.getaddrinfo

        def away(host):
            pytest.skip(f"needs the network: {host}", allow_module_level=True)

        def my_connect(self, address):
            if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(
                ("127.", "::1", "localhost", "0.0.0.0")
            ):
                away(address[0])
            return connect(self, address)

        def my_getaddrinfo(host, *a, **k):
            if host not in (None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0", socket.gethostname()):
                away(host)
            return getaddrinfo(host, *a, **k)

        socket.socket.connect = my_connect
        socket.getaddrinfo = my_getaddrinfo


checkout = Path(sys.argv[1])
folder = Path(tempfile.mkdtemp(prefix="allennlp_suite"))
for name in ("tests", "test_fixtures"):
    shutil.copytree(checkout / name, folder / name)
shutil.copy(checkout / "pytest.ini", folder)
os.environ["ALLENNLP_SRC_DIR"] = str(folder)
os.chdir(folder)
sys.path[0] = str(folder)
sys.exit(
    pytest.main(
        [
            "-p",
            "no:cacheprovider",
            "-rfEs",
            "--durations=60",
            "--tb=short",
            "-o",
            "faulthandler_timeout=300",
            "-v",
            "--continue-on-collection-errors",
            *(sys.argv[2:] or ["tests"]),
        ],
        plugins=[P()],
    )
)
