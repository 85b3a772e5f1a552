"""Each adapter inside its host has the numbers of the plain accumulator, bit for bit."""

import math
from pathlib import Path

import numpy as np
import pytest

import fastent as fe
import fastent.integrations

NAMES = ["cross_entropy", "brier", "ece", "accuracy"]


def rows(count=60, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(classes, size=count), rng.normal(size=(count, classes)).astype(np.float32)


def plain(labels, logits, **keywords):
    report = fe.Accumulator(NAMES, kind="logits", **keywords).update(labels, logits).compute()
    return {name: report[name].value for name in NAMES}


def test_adapters_are_thin():
    for file in Path(fastent.integrations.__file__).parent.glob("*.py"):
        assert len(file.read_text().splitlines()) < 100, file.name


# --- torchmetrics --------------------------------------------------------------------------------


def worker(rank, address, results):
    import torch
    import torch.distributed as dist

    from fastent.integrations.torchmetrics import AccumulatorMetric

    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    labels, logits = rows()
    metric = AccumulatorMetric(NAMES, {"kind": "logits"})
    mine = slice(0, 13) if rank == 0 else slice(13, 60)
    metric.update(torch.from_numpy(labels[mine]), torch.from_numpy(logits[mine]))
    found = metric.compute()
    torch.save(found, f"{results}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore")  # torchmetrics' own
def test_torchmetrics_in_one_process():
    pytest.importorskip("torchmetrics")
    import torch

    from fastent.integrations.torchmetrics import AccumulatorMetric

    labels, logits = rows()
    true, pred = torch.from_numpy(labels), torch.from_numpy(logits)
    metric = AccumulatorMetric(NAMES, {"kind": "logits"})
    batch = metric(true[:20], pred[:20])
    assert {k: v.item() for k, v in batch.items()} == plain(labels[:20], logits[:20])
    metric(true[20:], pred[20:])
    assert {k: v.item() for k, v in metric.compute().items()} == plain(labels, logits)
    metric.persistent(True)
    again = AccumulatorMetric(NAMES, {"kind": "logits"})
    again.persistent(True)
    again.load_state_dict(metric.state_dict())
    assert {k: v.item() for k, v in again.compute().items()} == plain(labels, logits)
    metric.reset()
    metric.update(true[:5], pred[:5].requires_grad_())
    assert {k: v.item() for k, v in metric.compute().items()} == plain(labels[:5], logits[:5])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_torchmetrics_in_two_processes(tmp_path):
    pytest.importorskip("torchmetrics")
    import torch
    import torch.multiprocessing as processes
    from test_integrations import worker  # the name by which a child can import it

    address = f"file://{tmp_path}/meet"
    processes.spawn(worker, (address, str(tmp_path)), nprocs=2)
    expected = plain(*rows())
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert {k: v.item() for k, v in found.items()} == expected


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lightning_validates_with_it_and_its_checkpoint_holds_the_state(tmp_path):
    lightning = pytest.importorskip("lightning")
    import torch

    from fastent.integrations.torchmetrics import AccumulatorMetric

    class Echo(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))
            self.metric = AccumulatorMetric(NAMES, {"kind": "logits"})
            self.seen = AccumulatorMetric(NAMES, {"kind": "logits"})
            self.seen.persistent(True)

        def training_step(self, batch, _):
            labels, logits = batch
            self.seen.update(labels, logits)
            return torch.nn.functional.cross_entropy(self.scale * logits, labels) * 0

        def validation_step(self, batch, _):
            labels, logits = batch
            self.metric.update(labels, logits)

        def on_validation_epoch_end(self):
            self.log_dict(self.metric.compute())
            self.metric.reset()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    labels, logits = rows()
    pairs = torch.utils.data.TensorDataset(torch.from_numpy(labels), torch.from_numpy(logits))
    loader = torch.utils.data.DataLoader(pairs, batch_size=7)
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, default_root_dir=tmp_path,
        num_sanity_val_steps=0,
    )  # fmt: skip
    model = Echo()
    trainer.fit(model, loader, loader)
    found = {name: trainer.callback_metrics[name].item() for name in NAMES}
    assert found == plain(labels, logits)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = Echo.load_from_checkpoint(tmp_path / "last.ckpt")
    twice = fe.Accumulator(NAMES, kind="logits").update(labels, logits).update(labels, logits)
    wanted = {name: twice.compute()[name].value for name in NAMES}
    assert {name: x.item() for name, x in again.seen.compute().items()} == wanted


# --- transformers --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_trainer(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    import torch

    from fastent.integrations.transformers import TrainerMetrics

    class Echo(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(9, 9)

        def forward(self, input_ids, labels=None):
            logits = self.table(input_ids)
            return {"loss": logits.sum() * 0, "logits": logits}

    torch.manual_seed(0)
    model = Echo()
    tokens = torch.randint(9, (7, 6))
    labels = tokens.clone()
    labels[2:4, 3:] = -100
    data = [{"input_ids": x, "labels": y} for x, y in zip(tokens, labels, strict=True)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), per_device_eval_batch_size=3, batch_eval_metrics=True,
        report_to=[], use_cpu=True,
    )  # fmt: skip
    trainer = transformers.Trainer(
        model=model, args=arguments, eval_dataset=data,
        compute_metrics=TrainerMetrics(NAMES, shift=True),
    )  # fmt: skip
    with torch.no_grad():
        logits = model.table(tokens).numpy()
    expected = plain(labels.numpy()[:, 1:], logits[:, :-1], ignore_index=-100)
    for _ in range(2):  # each evaluation begins anew
        found = trainer.evaluate()
        assert {name: found[f"eval_{name}"] for name in NAMES} == expected


# --- scikit-learn --------------------------------------------------------------------------------


def test_cross_validation_with_a_rare_class():
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold, cross_validate

    from fastent.integrations.sklearn import Scorer

    rng = np.random.default_rng(1)
    X = rng.normal(size=(90, 3))
    y = np.array(["a", "b"])[(X[:, 0] + rng.normal(size=90) > 0).astype(int)].astype(object)
    y[:3] = "rare"  # in the first fold only
    names = ["cross_entropy", "brier", "ece", "accuracy"]
    folds = KFold(3)
    found = cross_validate(LogisticRegression(), X, y, cv=folds, scoring=Scorer(names))
    assert found["test_neg_cross_entropy"][0] == -math.inf  # it was never seen
    for k, (train, test) in enumerate(folds.split(X)):
        model = LogisticRegression().fit(X[train], y[train])
        if k == 0:
            continue
        report = fe.Accumulator(names, classes=list(model.classes_))
        report = report.update(y[test], model.predict_proba(X[test])).compute()
        for name in names:
            sign = 1 if name == "accuracy" else -1
            score = found[f"test_{'' if sign > 0 else 'neg_'}{name}"][k]
            assert score == sign * report[name].value
    clipped = cross_validate(
        LogisticRegression(), X, y, cv=folds, scoring=Scorer("cross_entropy", eps=1e-6)
    )
    assert np.isfinite(clipped["test_score"]).all() and (clipped["test_score"] < 0).all()
    with pytest.raises(ValueError, match="kind"):
        Scorer("cross_entropy", kind="logit")


def test_a_class_that_a_fold_lacks_keeps_the_dtype():
    """Rows of float32 probabilities have the bits of the plain accumulator."""
    from fastent.integrations.sklearn import Scorer

    class Model:
        classes_ = np.array(["a", "b"])

        def predict_proba(self, X):
            return PROBS

    PROBS = np.random.default_rng(5).dirichlet(np.ones(2), 40).astype(np.float32)
    y = np.array(["a", "b"])[np.random.default_rng(6).integers(0, 2, 40)]
    y[7] = "c"
    found = Scorer(["brier", "entropy"])(Model(), None, y)
    wide = np.hstack([PROBS, np.zeros((40, 1), np.float32)])
    acc = fe.Accumulator(["brier", "entropy"], classes=["a", "b", "c"]).update(y, wide)
    report = acc.compute()
    assert found == {f"neg_{name}": -report[name].value for name in ("brier", "entropy")}
