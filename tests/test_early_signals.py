"""Signals that come while the command still imports."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = "import sys\nfrom fastent.cli import main\nsys.exit(main())\n"


@pytest.fixture(params=["module", "script"])
def words(request, tmp_path):
    """The command as it is started, told to say what it imports."""
    if request.param == "module":
        return [sys.executable, "-X", "importtime", "-m", "fastent"]
    script = tmp_path / "fastent"
    script.write_text(SCRIPT)
    return [sys.executable, "-X", "importtime", str(script)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_the_imports_ends_it_quietly(words, number, code):
    process = subprocess.Popen(
        [*words, "info"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in process.stderr:
        if line.endswith(" fastent._command\n"):
            break
    process.send_signal(number)
    printed, complaints = process.communicate(timeout=60)
    assert process.returncode == code
    assert printed == ""
    assert all(line.startswith("import time:") for line in complaints.splitlines())


@pytest.mark.parametrize("name", ["fastent.py", "other"])
def test_other_programs_keep_their_handlers(tmp_path, name):
    program = Path(tmp_path / name)
    program.write_text(
        "import signal, sys\n"
        "sys.argv[0] = 'fastent'\n"
        "before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]\n"
        "sys.path.pop(0)\n"
        "import fastent\n"
        "assert before == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]\n"
    )
    subprocess.run([sys.executable, program], check=True, timeout=60)
