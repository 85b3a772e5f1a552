"""Threads follow the affinity, then the quota of the control groups, rounded up."""

import os
import subprocess
import sys

import pytest

from fastent import _processors

ANY = 1 << 20


def fake(tmp_path, cgroup, mounts, files):
    """What /proc/self says, and control groups below it; `{}` in mounts is where they are."""
    place = tmp_path / "cgroups and more"
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    (tmp_path / "cgroup").write_text(cgroup)
    shown = str(place).replace(" ", "\\040")
    (tmp_path / "mountinfo").write_text("".join(f"{m}\n" for m in mounts).replace("{}", shown))
    return _processors.quota(str(tmp_path))


V2 = "35 24 0:29 {} {}{} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "36 32 0:33 {} {}{} rw,nosuid shared:10 - cgroup cgroup rw,cpu,cpuacct"


def mount(line, root="/", below=""):
    return line.format(root, "{}", below)


@pytest.mark.parametrize(
    ("given", "count"),
    [("max 100000", ANY), ("50000 100000", 1), ("100000 100000", 1), ("150000 100000", 2),
     ("250000 100000", 3), ("1000 1000000", 1), ("6400000 100000", 64), ("", ANY),
     ("nonsense", ANY), ("-5 100000", ANY), ("5 0", ANY)],
)  # fmt: skip
def test_version_2(tmp_path, given, count):
    found = fake(tmp_path, "0::/a/b\n", [mount(V2)], {"a/b/cpu.max": f"{given}\n"})
    assert found == count


def test_a_parent_may_be_narrower(tmp_path):
    files = {"a/cpu.max": "120000 100000\n", "a/b/cpu.max": "max 100000\n", "c/cpu.max": "1 1000"}
    assert fake(tmp_path, "0::/a/b\n", [mount(V2)], files) == 2
    assert fake(tmp_path / "root", "0::/\n", [mount(V2)], {"cpu.max": "300000 100000"}) == 3


def test_a_mount_that_shows_this_group_only(tmp_path):
    mounts, files = [mount(V2, "/docker/x")], {"cpu.max": "100000 50000", "in/cpu.max": "max 1"}
    assert fake(tmp_path, "0::/docker/x/in\n", mounts, files) == 2
    other = tmp_path / "outside"  # a namespace in which our path means nothing
    assert fake(other, "0::/../y\n", mounts, files) == 2


@pytest.mark.parametrize(
    ("quota", "period", "count"), [("-1", "100000", ANY), ("150000", "100000", 2), ("5", "", ANY)]
)
def test_version_1(tmp_path, quota, period, count):
    groups = "4:memory:/m\n1:cpu,cpuacct:/docker/x\n0::/\n"
    files = {"cpu.cfs_quota_us": f"{quota}\n", "cpu.cfs_period_us": f"{period}\n"}
    assert fake(tmp_path, groups, [mount(V1, "/docker/x")], files) == count


def test_both_versions(tmp_path):
    files = {"old/cpu.cfs_quota_us": "500000", "old/cpu.cfs_period_us": "100000"}
    files["new/cpu.max"] = "400000 100000"
    mounts = [mount(V1, below="/old"), mount(V2, below="/new")]
    assert fake(tmp_path, "1:cpu:/\n0::/\n", mounts, files) == 4


def test_where_nothing_is_known(tmp_path):
    assert _processors.quota(str(tmp_path)) == ANY


def test_the_lesser_of_both(monkeypatch):
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for allowed, count in ((ANY, affinity), (affinity, affinity), (1, 1)):
        monkeypatch.setattr(_processors, "quota", lambda allowed=allowed: allowed)
        assert _processors.usable() == count


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinities")
def test_affinity_is_followed():
    one = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{one}]); import fastent as fe; " \
           "print(fe.get_num_threads())"  # fmt: skip
    plain = {k: v for k, v in os.environ.items() if "NUM_THREADS" not in k}
    done = subprocess.run([sys.executable, "-P", "-c", code], env=plain, capture_output=True)
    assert done.stdout.split() == [b"1"], done.stderr
