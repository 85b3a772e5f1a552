"""Another package's own tests, run in a process of their own with our drop-ins in its place."""

import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def run_peer_tests(plugin, modules, chosen, folder):
    """(names of the failed tests, number that passed, the output)."""
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rf", "-p", plugin, "-p", "no:cacheprovider",
         "--pyargs", *modules, "-k", chosen],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path[1:]])},
        capture_output=True,
        text=True,
        timeout=600,
    )  # fmt: skip
    output = found.stdout + found.stderr
    assert found.returncode in (0, 1), output
    failed = re.findall(r"^FAILED \S*?::(\S+)", output, re.MULTILINE)
    passed = re.search(r"(\d+) passed", output)
    assert (found.returncode == 1) == bool(failed), output
    return failed, int(passed[1]) if passed else 0, output
