"""The page "In your pipeline": each example runs in its host, with the numbers of a plain call."""

import re
from pathlib import Path

import numpy as np
import pytest

import fastent as fe

PAGE = Path(__file__).parent.parent / "docs/pipeline.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="needs the source")
CLASSES, ROWS = 3, 25_003
RNG = np.random.default_rng(8)
LABELS = RNG.integers(CLASSES, size=ROWS)
LOGITS = RNG.normal(size=(ROWS, CLASSES)).astype(np.float32)
LANG = np.array(["de", "en", "fr"])[RNG.integers(3, size=ROWS)]
LOSSES = fe.sparse_cross_entropy(LABELS, LOGITS, kind="logits")


def example(title):
    text = PAGE.read_text(encoding="utf-8")
    (found,) = re.findall(rf"^## {title}\n.*?^```python\n(.*?)^```", text, re.DOTALL | re.M)
    assert len([line for line in found.splitlines() if line]) <= 15
    return compile(found, f"{PAGE.name}: {title}", "exec")


def run(title, **names):
    names["fe"] = fe
    exec(example(title), names)
    return names


def plain(groups=None):
    acc = fe.Accumulator(["cross_entropy", "ece"], kind="logits")
    return acc.update(LABELS, LOGITS, groups=groups).compute()


@pytest.fixture
def rows(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    table = pyarrow.table({"label": LABELS, "logits": list(LOGITS), "lang": LANG})
    parquet.write_table(table, tmp_path / "rows.parquet", row_group_size=7_000)
    monkeypatch.chdir(tmp_path)


def test_polars(rows):
    pytest.importorskip("polars")
    names = run("Polars")
    np.testing.assert_array_equal(names["losses"]["loss"].to_numpy(), LOSSES)
    assert names["losses"]["lang"].to_list() == LANG.tolist()
    assert names["acc"].compute() == plain(LANG)


def test_duckdb(rows):
    pytest.importorskip("duckdb")
    names = run("DuckDB")
    assert sorted(names["losses"]) == sorted(zip(LANG.tolist(), LOSSES.tolist(), strict=True))
    assert names["acc"].compute() == plain(LANG)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the library
def test_hugging_face_datasets(rows, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    names = run("Hugging Face datasets")
    np.testing.assert_array_equal(names["losses"]["loss"], LOSSES)
    assert names["acc"].compute() == plain(LANG)


def one_of_two(rank, address, folder):
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    mine = np.split(np.arange(ROWS), [9_001])[rank]
    batches = [(torch.from_numpy(LABELS[part]), torch.from_numpy(LOGITS[part]))
               for part in np.array_split(mine, 3)]  # fmt: skip
    report = run("torch.distributed", batches=batches)["report"]
    Path(folder, f"{rank}.json").write_text(report.to_json())
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the library
def test_torch_distributed(tmp_path):
    processes = pytest.importorskip("torch.multiprocessing")
    from test_pipeline_page import one_of_two  # the name by which a child can import it

    processes.spawn(one_of_two, (f"file://{tmp_path}/meet", str(tmp_path)), nprocs=2)
    for rank in (0, 1):
        assert (tmp_path / f"{rank}.json").read_text() == plain().to_json()


def boosted(library, make):
    """A history of the example's metrics, and what the last model predicts for its rows."""
    rng = np.random.default_rng(3)
    features = rng.normal(size=(400, 4))
    labels = (features[:, :2].sum(1) > 0) + (features[:, 0] > 1).astype(int)
    weight = rng.uniform(0.5, 2, 200)
    train, valid = make(features[:200], labels[:200]), make(features[200:], labels[200:], weight)
    names = run(library, train=train, valid=valid)
    return names, features[200:], labels[200:], weight


def test_xgboost():
    xgboost = pytest.importorskip("xgboost")
    kept = []

    def make(features, labels, weight=None):
        return xgboost.DMatrix(features, labels, weight=weight)

    train = xgboost.train
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xgboost, "train", lambda *a, **k: kept.append(train(*a, **k)))
        names, features, labels, weight = boosted("XGBoost", make)
    (found,) = names["history"].values()
    predicted = kept[0].predict(xgboost.DMatrix(features))
    expected = fe.sparse_cross_entropy(
        labels, predicted, sample_weight=weight.astype(np.float32), reduction="mean"
    )
    # XGBoost hands on what it prints.
    assert len(found["cross_entropy"]) == 10
    assert found["cross_entropy"][-1] == pytest.approx(expected, rel=1e-5)
    assert found["cross_entropy"][-1] < found["cross_entropy"][0]


@pytest.mark.filterwarnings("ignore")  # of the library
def test_lightgbm():
    lightgbm = pytest.importorskip("lightgbm")
    kept = []

    def make(features, labels, weight=None):
        return lightgbm.Dataset(features, labels, weight=weight, free_raw_data=False)

    train = lightgbm.train
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lightgbm, "train", lambda *a, **k: kept.append(train(*a, **k)))
        names, features, labels, weight = boosted("LightGBM", make)
    (found,) = names["history"].values()
    acc = fe.Accumulator(["cross_entropy", "ece"])
    predicted = kept[0].predict(features)
    report = acc.update(labels, predicted, sample_weight=weight.astype(np.float32)).compute()
    assert {name: found[name][-1] for name in found} == {
        name: pytest.approx(result.value, rel=1e-12) for name, result in report.items()
    }
    assert set(found) == {"cross_entropy", "ece"} and len(found["ece"]) == 10
