"""On Dask nothing changes but the wall clock: the same bits from arrays, dataframes and files."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask
import dask.array as da
import dask.dataframe as dd
import distributed
import dumps
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

import fastent as fe
import fastent.dask as fd
from fastent.cli import checkpoint, cluster, main, signals

TASKS = "/proc/self/task"  # of Linux: a directory for each thread of the process

METRICS = ["cross_entropy", "perplexity", "accuracy", "ece", "skill", "entropy"]
ROWS, CLASSES = 900, 7
RNG = np.random.default_rng(8)
LOGITS = RNG.normal(size=(ROWS, CLASSES)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, ROWS)
P, Q = RNG.dirichlet(np.ones(CLASSES), (2, ROWS))
WEIGHTS = RNG.random(ROWS)
NAMES = np.array(["a", "b", "c"])[LABELS % 3]
UNEVEN = ((1, 500, 3, 396), (CLASSES,))


@pytest.fixture(scope="module")
def workers():
    """Three processes; their FASTENT_NUM_THREADS is more than Dask gives a task."""
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, dashboard_address=":0", silence_logs=50,
        env={"FASTENT_NUM_THREADS": "4"},
    ) as made:  # fmt: skip
        yield made


@pytest.fixture
def client(workers):
    with distributed.Client(workers, set_as_default=False) as made:
        yield made


def everything(report):
    parts = {"": report, **report.groups}
    found = {(name, m): part[m] for name, part in parts.items() for m in METRICS}
    return {key: (x.value, x.stderr, x.count, x.weight) for key, x in found.items()}


# --- arrays and dataframes ------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize(
    ("name", "operands", "options"),
    [
        ("sparse_cross_entropy", (LABELS, LOGITS), {"kind": "logits"}),
        ("sparse_cross_entropy", (LABELS, P), {"sample_weight": WEIGHTS, "ignore_index": 2}),
        ("sparse_cross_entropy", (LABELS, P), {"class_weight": np.arange(7.0), "base": 2}),
        ("sparse_cross_entropy", (LABELS, P), {"sample_weight": P, "label_smoothing": 0.1}),
        ("categorical_cross_entropy", (P, Q), {"eps": 1e-3}),
        ("binary_cross_entropy", ((P > 0.2) * 1.0, Q), {"sample_weight": WEIGHTS[:, None]}),
        ("binary_cross_entropy", ((P[:, :1] > 0.2) * 1.0, Q), {}),
        ("binary_cross_entropy", ((P > 0.2) * 1.0, Q[:1]), {}),
        ("kl_divergence", (P, LOGITS), {"kind": ("probs", "logits")}),
        ("js_divergence", (P, Q), {}),
        ("entropy", (P,), {}),
        ("entropy", (P.T,), {"axis": 0}),
    ],
)
def test_functions_give_the_same_bits(name, operands, options, reduction):
    chunks = {0: 130, 1: -1} if options.get("axis") != 0 else {0: -1, 1: 130}
    cut = [da.from_array(x, chunks=chunks if x.ndim == 2 else 77) for x in operands]
    lazy = getattr(fd, name)(*cut, reduction=reduction, **options)
    expected = getattr(fe, name)(*operands, reduction=reduction, **options)
    assert isinstance(lazy, da.Array) and lazy.shape == np.shape(expected)
    np.testing.assert_array_equal(lazy.compute(scheduler="sync"), expected)


def test_what_is_in_memory_is_cut_like_what_is_not():
    lazy = fd.sparse_cross_entropy(da.from_array(LABELS, chunks=100), P)
    assert lazy.chunks == ((100,) * 9,)
    np.testing.assert_array_equal(
        lazy.compute(scheduler="sync"), fe.sparse_cross_entropy(LABELS, P)
    )


def test_a_class_axis_in_chunks_is_rechunked_with_a_warning():
    with pytest.warns(UserWarning, match="^p: the class axis is in 3 chunks"):
        lazy = fd.entropy(da.from_array(P, chunks=(100, 3)))
    np.testing.assert_array_equal(lazy.compute(scheduler="sync"), fe.entropy(P))


def test_errors_are_told_early_and_name_the_row():
    logits = da.from_array(LOGITS, chunks=(100, CLASSES))
    bad = np.where(np.arange(ROWS) == 501, 9, LABELS)
    with pytest.raises(ValueError, match="kind: expected"):
        fd.entropy(logits, kind="odds")
    with pytest.raises(ValueError, match="labels: expected shape"):
        fd.sparse_cross_entropy(LABELS[:5], logits)
    with pytest.raises(TypeError, match="out: does not apply"):
        fd.entropy(logits, out=np.empty(ROWS))
    with pytest.raises(ValueError, match="no 'rank'"):
        fd.accumulate("rank", LABELS, logits)
    lazy = fd.sparse_cross_entropy(bad, logits, kind="logits")
    with pytest.raises(ValueError, match=r"labels: .* got 9 in row 501"):
        lazy.compute(scheduler="sync")


def one_machine():
    acc = fe.Accumulator(METRICS, kind="logits")
    acc.update(LABELS, LOGITS, sample_weight=WEIGHTS, groups=NAMES, clusters=LABELS)
    return everything(acc.compute())


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [(ROWS, CLASSES), (13, CLASSES), UNEVEN], ids=str)
def test_accumulate_on_arrays_by_workers(client, chunks):
    logits = da.from_array(LOGITS, chunks=chunks)
    lazy = fd.accumulate(
        METRICS, LABELS, logits, kind="logits", sample_weight=WEIGHTS, groups=NAMES,
        clusters=da.from_array(LABELS, chunks=50),
    )  # fmt: skip
    assert everything(client.compute(lazy).result()) == one_machine()


def test_accumulate_on_dataframes():
    frame = pd.DataFrame(LOGITS).rename(columns=str)
    frame = frame.assign(label=LABELS, weight=WEIGHTS, name=NAMES)
    lazy = dd.from_pandas(frame, npartitions=6)
    report = fd.accumulate(
        METRICS, lazy["label"], lazy[[str(c) for c in range(CLASSES)]], kind="logits",
        sample_weight=lazy["weight"], groups=lazy["name"], clusters=lazy["label"],
    ).compute(scheduler="sync")  # fmt: skip
    assert everything(report) == one_machine()


@pytest.mark.slow
@pytest.mark.parametrize(
    "metric", ["kl_divergence", fe.chi2_divergence], ids=["kl_divergence", "chi2_divergence"]
)
def test_accumulate_of_divergences(metric, client):
    lazy = fd.accumulate(metric, da.from_array(P, chunks=(64, 7)), Q, task="divergence")
    ((name, wanted),) = fe.Accumulator(metric, task="divergence").update(P, Q).compute().items()
    found = client.compute(lazy).result()[name]
    assert (found.value, found.stderr) == (wanted.value, wanted.stderr)


def lists_of(rng, rows, classes, k):
    """A teacher's largest classes, and logits of a student."""
    p = 2 * rng.normal(size=(rows, classes))
    a = p - np.logaddexp.reduce(p, axis=1)[:, None]
    ids = np.argsort(-a, axis=1)[:, :k]
    student = (p + rng.normal(size=p.shape)).astype(np.float32)
    return ids, np.take_along_axis(a, ids, 1), student


@pytest.mark.parametrize("lazy", ["q", "ids", "both", "none", "columns"])
def test_accumulate_of_lists(lazy):
    ids, logprobs, q = lists_of(RNG, 300, 40, 6)
    names, more = ["tail_p", "low", "high"], {"task": "topk", "kind": "logits"}
    sides = {"groups": np.arange(300) % 3, "sample_weight": RNG.random(300)}
    wanted = fe.Accumulator(names, **more).update((ids, logprobs), q, **sides).compute()
    pair, pred = (ids, logprobs), q
    if lazy in ("ids", "both"):
        pair = (da.from_array(ids, chunks=(50, 2)), da.from_array(logprobs, chunks=(77, 6)))
    if lazy == "columns":
        with dask.config.set({"dataframe.convert-string": False}):
            frame = pd.DataFrame({"ids": list(ids), "logprobs": list(logprobs)})
            frame = dd.from_pandas(frame, npartitions=4)
        pair = (frame["ids"], frame["logprobs"])
    if lazy in ("q", "both", "columns"):
        pred = da.from_array(q, chunks=(75, 40))
    found = fd.accumulate(names, pair, pred, **more, **sides).compute(scheduler="sync")
    assert found == wanted
    ranked = (*pair, np.arange(1, 7) + np.zeros((300, 1), int))
    found = fd.accumulate(names, ranked, pred, **more, **sides).compute(scheduler="sync")
    assert found == wanted


def test_accumulate_of_lists_that_broadcast_and_of_two():
    ids, logprobs, q = lists_of(RNG, 60, 30, 5)
    more = {"task": "topk", "kind": "logits"}
    pair = (da.from_array(ids, chunks=(17, 5)), logprobs)
    for true, pred in ((pair, q[0]), ((ids[0], logprobs[0]), da.from_array(q, chunks=(13, 30)))):
        plain = tuple(np.asarray(x) for x in true)
        wanted = fe.Accumulator("low", **more).update(plain, np.asarray(pred)).compute()
        assert fd.accumulate("low", true, pred, **more).compute(scheduler="sync") == wanted
    more["topk_options"] = {"classes": 30}
    other = (ids[:, ::-1], logprobs[:, ::-1] - 0.1)
    wanted = fe.Accumulator("low", **more).update((ids, logprobs), other).compute()
    lazy = tuple(da.from_array(x, chunks=(11, 5)) for x in other)
    assert fd.accumulate("low", pair, lazy, **more).compute(scheduler="sync") == wanted
    bad = ids.copy()
    bad[41, 1] = bad[41, 0]
    del more["topk_options"]
    student = da.from_array(q, chunks=(13, 30))
    found = fd.accumulate("low", (bad, logprobs), student, **more)
    with pytest.raises(ValueError, match=r"got \d+ twice in row 41"):
        found.compute(scheduler="sync")
    with pytest.raises(ValueError, match=r"^logprobs: expected shape"):
        fd.accumulate("low", (ids, logprobs[:9]), student, **more)
    with pytest.raises(TypeError, match="pred: expected an array in task 'topk'"):
        fd.accumulate("low", (ids, logprobs), task="topk")


def test_accumulate_of_log_probabilities():
    names, losses = ["perplexity", "bits_per_byte"], -RNG.exponential(size=200)
    counts = RNG.integers(1, 9, 200)
    acc = fe.Accumulator(names, task="logprob").update(losses, bytes=counts, groups=counts % 2)
    lazy = fd.accumulate(
        names, da.from_array(losses, chunks=33), bytes=da.from_array(counts, chunks=70),
        task="logprob", groups=counts % 2,
    )  # fmt: skip
    assert lazy.compute(scheduler="sync") == acc.compute()
    with pytest.raises(ValueError, match="bytes: applies to task 'logprob'"):
        fd.accumulate("accuracy", LABELS, LOGITS, bytes=counts)
    with pytest.raises(TypeError, match="takes log-probabilities alone"):
        fd.accumulate("perplexity", losses, counts, task="logprob")


@pytest.mark.slow
def test_a_task_uses_the_thread_that_dask_gave_it(client):
    def threads():
        return {name: len(found) for name, found in client.run(os.listdir, TASKS).items()}

    big = da.full((600_000, 10), 0.1, chunks=(100_000, 10))
    labels = da.zeros(600_000, dtype=np.int64, chunks=100_000)
    before = threads()
    report = client.compute(fd.accumulate("entropy", labels, big)).result()
    assert report["entropy"].count == 600_000
    client.compute(fd.entropy(big, reduction="sum")).result()
    after = threads()
    assert all(after[name] <= before[name] + 1 for name in before)  # Dask may start one more
    assert set(client.run(fe.get_num_threads).values()) == {4}


@pytest.mark.slow
def test_ten_thousand_small_tasks():
    """On threads, which run them in seconds: a cluster takes 4 ms for any task."""
    rows = 10_000
    labels = da.zeros(rows, dtype=np.int64, chunks=1)
    lazy = fd.accumulate("cross_entropy", labels, da.zeros((rows, 2), chunks=(1, 2)), kind="logits")
    assert len(lazy.dask) == rows + 1250 + 157 + 20 + 3 + 1 + 1  # eight merged at a time
    found = lazy.compute(scheduler="threads")["cross_entropy"]
    assert (found.value, found.stderr, found.count) == (np.log(2), 0.0, rows)


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """Writes so many shards, one of them much larger than the others."""
    monkeypatch.chdir(tmp_path)

    def write(count):
        for number in range(count):
            rows = 5000 if number == 3 else 1 + number % 5
            np.save(f"x-{number}.npy", RNG.normal(size=(rows, 6)).astype(np.float32))
            np.save(f"y-{number}.npy", RNG.integers(0, 6, rows))
            np.save(f"g-{number}.npy", np.array(["a", "b"])[RNG.integers(0, 2, rows)])

    return write


def score(*words):
    return main(
        ["score", "x-*.npy", "--labels", "y-*.npy", "--kind", "logits", "--groups", "g-*.npy",
         "--clusters", "y-*.npy", "--worst", "4", "--quiet", *words]
    )  # fmt: skip


def kill_one_when_busy(workers, killed):
    with distributed.Client(workers, set_as_default=False) as watching:
        pids = watching.run(os.getpid)
        while not watching.run_on_scheduler(
            lambda dask_scheduler: any(t.state == "memory" for t in dask_scheduler.tasks.values())
        ):
            time.sleep(0.005)
        os.kill(next(iter(pids.values())), signal.SIGKILL)
        killed.append(next(iter(pids.values())))


@pytest.mark.slow
def test_a_thousand_shards_and_a_killed_worker(workers, client, shards, monkeypatch):
    shards(1000)
    # Row ranges too: the large shard is several tasks.
    monkeypatch.setattr(cluster, "TASK_BYTES", 1 << 10)
    killed = []
    killer = threading.Thread(target=kill_one_when_busy, args=(workers, killed))
    killer.start()
    assert score("--json", "cluster.json", "--dask", workers.scheduler_address) == 0
    killer.join()
    assert killed
    assert score("--json", "here.json") == 0
    assert Path("cluster.json").read_bytes() == Path("here.json").read_bytes()
    client.wait_for_workers(3)
    assert killed[0] not in client.run(os.getpid).values()


def same_files(*words, dask, command="score"):
    """The command on the cluster and here: JSON and row values, byte for byte."""
    written = []
    for number, more in enumerate((["--dask", *dask], [])):
        made = [f"found-{number}.json", f"found-{number}.parquet"]
        outputs = ["--json", made[0], "--rows", made[1], "--quiet"]
        assert main([command, *words, *outputs, *more]) == 0
        written.append([Path(name).read_bytes() for name in made])
    assert written[0] == written[1]
    return json.loads(written[0][0])


@pytest.mark.slow
@pytest.mark.parametrize("dask", [["local:2"], ["local:1", "--num-threads", "3"]], ids=str)
def test_processes_of_its_own(shards, dask):
    shards(8)
    same_files("x-*.npy", "--labels", "y-*.npy", "--kind", "logits", dask=dask)


def test_tasks_of_several_threads_share_those_of_the_worker():
    def task(wanted):
        with cluster.lent_threads(wanted) as threads:
            began = time.monotonic()
            time.sleep(0.02)
            return threads, began, time.monotonic()

    with (
        distributed.LocalCluster(
            processes=False, n_workers=1, threads_per_worker=4, dashboard_address=":0"
        ) as made,
        distributed.Client(made, set_as_default=False) as client,
    ):
        found = client.gather(client.map(task, [2, 3, 9, 2, 2, 3] * 2, pure=False))
    assert [threads for threads, _, _ in found] == [2, 3, 4, 2, 2, 3] * 2
    for _, now, _ in found:
        assert sum(threads for threads, began, ended in found if began <= now < ended) <= 4


@pytest.mark.slow
def test_everything_that_a_command_takes(workers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "TASK_BYTES", 1 << 13)
    rng = np.random.default_rng(21)
    dask = [workers.scheduler_address]
    for number, rows in enumerate((700, 1, 40, 0, 333)):
        probs = rng.dirichlet(np.ones(5), rows).astype(np.float32)
        probs[rng.random(rows) < 0.02] = np.nan
        labels = rng.integers(-1, 5, rows)
        np.savez(f"s{number}.npz", probs=probs, labels=labels, weights=rng.random(rows),
                 target=rng.dirichlet(np.ones(5), rows), who=rng.integers(0, 9, rows).astype(str),
                 hits=(probs > 0.3) * 1.0)  # fmt: skip
        table = {"labels": labels, "weights": rng.random(rows), "who": labels.astype(str)}
        lists = pa.FixedSizeListArray.from_arrays(pa.array(probs.reshape(-1)), 5)
        parquet.write_table(pa.table({"probs": lists, **table}), f"t{number}.parquet")
        feather.write_feather(
            pa.table({"probs": lists, **table}), f"t{number}.arrow", compression="uncompressed"
        )
    metrics = "cross_entropy,perplexity,accuracy,top2_accuracy,ece,mce,label_entropy,skill"
    found = same_files(
        "s*.npz", "t*.parquet", "t*.arrow", "--labels", ":labels", "--kind", "probs",
        "--metrics", metrics, "--weights", "weights", "--groups", "who", "--clusters", "labels",
        "--ignore-index", "-1", "--nan-policy", "omit", "--worst", "7", "--bins", "9", dask=dask,
    )  # fmt: skip
    assert found["nan_rows"] > 0 and found["ignored_rows"] > 0 and len(found["worst"]) == 7
    found = same_files(
        "s*.npz:probs", "--labels", ":target", "--task", "categorical", "--kind", "probs",
        "--clusters", "who", "--nan-policy", "propagate", "--worst", "3", dask=dask,
    )  # fmt: skip
    assert found["metrics"]["kl_divergence"]["value"] == "nan"
    same_files(
        "s*.npz:probs", "--labels", ":hits", "--task", "binary", "--kind", "probs",
        "--nan-policy", "omit", dask=dask,
    )  # fmt: skip


@pytest.mark.slow
def test_dumps(workers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "TASK_BYTES", 1 << 13)
    for number, chunks in enumerate((3, 1, 9)):
        for name, seed in (("p", 2 * number), ("q", 2 * number + 1)):
            dumps.write(f"{name}-{number}.bin", 21, 2051, chunks, seed=seed, spread=5.0)
    dask = [workers.scheduler_address]
    found = same_files("p-*.bin", "q-*.bin", "--worst", "5", command="compare", dask=dask)
    assert found["rows"] == 13 * 10 and found["clipping"]["p"]["rows_clipped"] > 0
    same_files("p-*.bin", "--worst", "5", dask=dask)


@pytest.mark.slow
def test_lists(workers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "TASK_BYTES", 1 << 13)
    rng = np.random.default_rng(5)
    for number, rows in enumerate((300, 1, 77)):
        ids, logprobs, q = lists_of(rng, rows, 50, 5)
        q[rng.random(rows) < 0.05] = np.nan
        np.save(f"q-{number}.npy", q)
        np.savez(f"p-{number}.npz", ids=ids, logprobs=logprobs)
        columns = {"ids": list(ids), "logprobs": list(logprobs), "who": ids[:, 0].astype(str)}
        parquet.write_table(pa.table(columns), f"t-{number}.parquet", row_group_size=40)
        with open(f"v-{number}.jsonl", "w") as file:
            for row, some in zip(ids.tolist(), logprobs.tolist(), strict=True):
                entries = {
                    str(i): {"logprob": a, "rank": r}
                    for r, (i, a) in enumerate(zip(row, some, strict=True), 1)
                }
                file.write(json.dumps({"prompt_logprobs": [None, entries]}) + "\n")
    dask = [workers.scheduler_address]
    words = ["q-*.npy", "--kind", "logits", "--nan-policy", "omit", "--worst", "4"]
    found = same_files("p-*.npz", *words, "--cap", "none", command="compare", dask=dask)
    assert found["nan_rows"] > 0 and found["metrics"]["low"]["value"] > 0
    grouped = same_files("t-*.parquet", *words, "--groups", "who", command="compare", dask=dask)
    assert len(grouped["groups"]) > 5
    found = same_files("v-*.jsonl", *words, "--format", "vllm", command="compare", dask=dask)
    assert found["metrics"] == grouped["metrics"]
    same_files("p-*.npz", "t-*.parquet", "--vocabulary", "50", command="compare", dask=dask)


@pytest.mark.slow
def test_hidden_states_and_heads(workers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "TASK_BYTES", 1 << 11)
    rng = np.random.default_rng(6)
    head, other = rng.normal(size=(2, 40, 12)).astype(np.float32)
    np.save("head.npy", head)
    np.save("other.npy", other)
    for number, rows in enumerate((300, 1, 70)):
        np.save(f"h-{number}.npy", rng.normal(size=(rows, 12)).astype(np.float32))
        np.save(f"y-{number}.npy", rng.integers(0, 40, rows))
    words = {
        "score": ["h-*.npy", "--labels", "y-*.npy", "--head", "head.npy"],
        "compare": ["h-*.npy", "h-*.npy", "--head-p", "head.npy", "--head-q", "other.npy"],
    }
    for command, given in words.items():
        found = []
        for more in (["--dask", workers.scheduler_address], []):
            assert main([command, *given, *more, "--json", "found.json", "--quiet"]) == 0
            metrics = json.loads(Path("found.json").read_text())["metrics"]
            found.append({name: entry["value"] for name, entry in metrics.items()})
        # products of other blocks may differ in their last bits
        assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_a_large_file_is_cut_into_row_ranges(tmp_path, monkeypatch):
    from fastent.io import Reference, open_source, shards

    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.zeros((1000, 6), np.float32))
    monkeypatch.setattr(cluster, "TASK_BYTES", 1 << 12)
    monkeypatch.setattr(shards, "PIECE_ROWS", 10)
    monkeypatch.setattr(shards, "PIECES", 8)
    found = shards.align([open_source(Reference("x.npy"), "predictions")], {}, True)
    ranges = [(job.start, job.stop) for job in cluster.jobs_of(found, whole=False, most_rows=10**6)]
    assert len(ranges) == 5
    assert [start for start, _ in ranges] == [0, *(stop for _, stop in ranges[:-1])]
    assert ranges[-1][1] == 1000
    assert len(cluster.jobs_of(found, whole=True, most_rows=10)) == 1
    by_rows = cluster.jobs_of(found, whole=False, most_rows=100)
    sizes = [job.stop - job.start for job in by_rows]
    assert max(sizes) == 160 and sum(sizes) == 1000 and min(sizes[:-1]) >= 100


@pytest.mark.slow
def test_a_failing_shard_is_named_or_left_out(workers, shards, capsys):
    shards(30)
    labels = np.load("y-8.npy")
    labels[1] = 77
    np.save("y-8.npy", labels)
    address = workers.scheduler_address
    assert score("--dask", address) == 2
    told = capsys.readouterr().err
    assert told == "fastent: y-8.npy: expected classes in [0, 6), got 77 in row 1\n"
    Path("x-11.npy").write_bytes(Path("x-11.npy").read_bytes()[:-1])
    np.save("x-5.npy", np.zeros((len(np.load("y-5.npy")), 7), np.float32))
    words = ["--json", "skipped.json", "--rows", "skipped.parquet"]
    assert score("--dask", address, "--on-error", "skip", *words) == 0
    found = json.loads(Path("skipped.json").read_text())
    assert [entry["file"] for entry in found["left_out"]] == ["x-5.npy", "x-8.npy", "x-11.npy"]
    assert "x-5.npy: 7 classes, expected 6" in found["left_out"][0]["error"]
    assert "y-8.npy" in found["left_out"][1]["error"]
    for number in (5, 8, 11):
        for name in "xyg":
            Path(f"{name}-{number}.npy").unlink()
    assert score("--json", "rest.json", "--rows", "rest.parquet") == 0
    assert Path("skipped.parquet").read_bytes() == Path("rest.parquet").read_bytes()
    rest = json.loads(Path("rest.json").read_text())
    assert {key: found[key] for key in rest} == rest


@pytest.mark.slow
def test_a_stopped_run_goes_on_from_its_checkpoint(workers, shards, monkeypatch):
    shards(60)
    words = ["--json", "cluster.json", "--checkpoint", "progress", "--rows", "rows.parquet"]
    words += ["--dask", workers.scheduler_address]
    take, seen = cluster.ClusterRun._take, []

    def stop_after_thirty(run, number, result):
        take(run, number, result)
        seen.append(number)
        if len(seen) == 30:
            run._save()
            raise signals.Interrupted(signal.SIGTERM)

    monkeypatch.setattr(checkpoint, "FIRST_SECONDS", 0)
    monkeypatch.setattr(cluster.ClusterRun, "_take", stop_after_thirty)
    assert score(*words) == 143
    assert Path("progress").exists() and not Path("rows.parquet").exists()
    assert score("--json", "here.json", "--checkpoint", "progress") == 2  # other work
    assert score(*words) == 0
    assert sorted(seen) == list(range(60))
    left = {path.name for path in Path().iterdir() if not re.match(r"[xyg]-", path.name)}
    assert left == {"cluster.json", "rows.parquet"}
    assert score("--json", "here.json", "--rows", "here.parquet") == 0
    assert Path("cluster.json").read_bytes() == Path("here.json").read_bytes()
    assert Path("rows.parquet").read_bytes() == Path("here.parquet").read_bytes()


@pytest.mark.slow
def test_progress_is_shown(workers, shards, monkeypatch):
    shards(20)
    shown = []
    monkeypatch.setattr(cluster.Progress, "advance", lambda self, done: shown.append(done))
    assert score("--dask", workers.scheduler_address) == 0
    assert len(shown) == 20 and shown == sorted(shown)
    assert shown[-1] == sum(len(np.load(path)) for path in Path().glob("y-*.npy"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--dask", "local:0"], "--dask: expected HOST:PORT or local:N"),
        (["--dask", "4"], "--dask: expected HOST:PORT or local:N, got '4'"),
        (["--dask", "local:1", "--rows", "-"], "--rows -: expected an ordinary file with --dask"),
    ],
)
def test_bad_usage(words, told, capsys):
    assert score(*words) == 2
    found = capsys.readouterr().err
    assert told in found and found.count("\n") == 1


def test_without_distributed_the_extra_is_named(shards, monkeypatch, capsys):
    shards(1)
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert score("--dask", "local:1") == 2
    assert "needs the package distributed (extra 'dask')" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "needs"), [("pool", "numpy"), ("ray", "ray"), ("spark", "pyspark")]
)
def test_recipes(name, needs, tmp_path):
    pytest.importorskip(needs)
    text = (Path(__file__).parent.parent / "docs" / "scaling.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(rf"```python\n(# {name}_scores\.py.*?)```", text, re.DOTALL)
    (tmp_path / "recipe.py").write_text(recipe, encoding="utf-8")
    for number, part in enumerate(np.array_split(np.arange(ROWS), 5)):
        np.save(tmp_path / f"x-{number}.npy", LOGITS[part])
        np.save(tmp_path / f"y-{number}.npy", LABELS[part])
    table = pa.table({"label": LABELS, "logits": list(LOGITS)})
    parquet.write_table(table, tmp_path / "scores.parquet", row_group_size=100)
    found = subprocess.run(
        [sys.executable, "recipe.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYSPARK_PYTHON": sys.executable},  # of its workers
    )  # fmt: skip
    report = fe.Accumulator(["cross_entropy", "accuracy"], kind="logits").update(LABELS, LOGITS)
    assert found.stdout.split() == [
        repr(report.compute()[name].value) for name in ("cross_entropy", "accuracy")
    ], found.stderr


def test_two_lazy_reports_at_once():
    logits = da.from_array(LOGITS, chunks=UNEVEN)
    lazy = [fd.accumulate(m, LABELS, logits, kind="logits") for m in ("accuracy", "brier")]
    first, second = dask.compute(*lazy, scheduler="threads", num_workers=2)
    acc = fe.Accumulator(["accuracy", "brier"], kind="logits").update(LABELS, LOGITS).compute()
    assert first["accuracy"].value == acc["accuracy"].value
    assert second["brier"].value == acc["brier"].value
