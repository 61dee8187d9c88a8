"""What a program imports with `Cluster`: not what only other ways of using the package need.

To import betterproto takes as long as Trio itself, since it brings grpclib's client and server, and asyncio.
"""

from __future__ import annotations

import subprocess
import sys

FOR_OTHER_WAYS = {
    "asyncio",
    "betterproto",
    "cattrs",
    "cryptography",
    "email",
    "grpclib.client",
    "grpclib.server",
    "h2",
    "importlib.metadata",
    "numpy",
    "pandas",
    "pyarrow",
    "trio_websocket",
    "typed_settings",
    "wsproto",
}

CODE = """
from trio_model_runner import Arguments, Cluster, ClusterConfig, DynamicSubclassService
import sys
Cluster(ClusterConfig("crunch", "127.0.0.1"), DynamicSubclassService("a.B"))
print(*sys.modules)
"""


def test_a_plain_cluster_imports_nothing_for_other_ways() -> None:
    command = [sys.executable, "-c", CODE]
    imported = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60).stdout.split()
    assert "trio_model_runner.cluster.cluster" in imported
    assert FOR_OTHER_WAYS.isdisjoint(imported)
