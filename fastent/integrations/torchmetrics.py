"""An accumulator as a `torchmetrics.Metric`: batches, processes and checkpoints merge exactly."""

from __future__ import annotations

import json
from typing import Any

from fastent._extras import missing
from fastent.accumulator import Accumulator

try:
    import torch
    import torchmetrics
except ModuleNotFoundError as _error:
    named = (_error.name or "").partition(".")[0]
    raise missing(_error, named, "fastent.integrations.torchmetrics") from None


class AccumulatorMetric(torchmetrics.Metric):
    """Metrics of `fastent.Accumulator`, which `compute` gives as a dict of float64 tensors.

    Processes are synchronised by exact merges, so that their number does not show in the bits; the
    state goes with `state_dict` if it is made persistent.

    Parameters
    ----------
    metrics : str, divergence, or sequence of them
        As in `fastent.Accumulator`.
    options : dict, optional
        The keywords of `fastent.Accumulator`.
    **keywords
        Those of `torchmetrics.Metric`.

    Examples
    --------
    >>> import torch
    >>> from fastent.integrations.torchmetrics import AccumulatorMetric
    >>> metric = AccumulatorMetric("accuracy", {"kind": "logits"})
    >>> metric.update(torch.tensor([0, 1]), torch.tensor([[1.0, 0.0], [2.0, 0.0]]))
    >>> metric.compute()["accuracy"].item()
    0.5
    """

    full_state_update = False
    is_differentiable = False

    def __init__(
        self, metrics: Any, options: dict[str, Any] | None = None, **keywords: Any
    ) -> None:
        super().__init__(**keywords)
        self._empty = Accumulator(metrics, **(options or {}))
        self._accumulator = self._empty.copy()
        self.add_state("packed", default=[], dist_reduce_fx=None)

    @property
    def packed(self) -> list[torch.Tensor]:
        """The state as bytes: what torchmetrics gathers, stores and moves."""
        text = json.dumps(self._accumulator.state_dict()).encode()
        return [torch.frombuffer(bytearray(text), dtype=torch.uint8).to(self.device)]

    @packed.setter
    def packed(self, parts: list[torch.Tensor]) -> None:
        self._accumulator = self._empty.copy()
        own = [m for m in self._empty._own if not m.ready]
        for part in parts:
            state = json.loads(part.cpu().numpy().tobytes())
            self._accumulator.merge(Accumulator.from_state_dict(state, metrics=own))

    def update(self, true: torch.Tensor, pred: torch.Tensor, **keywords: Any) -> None:
        """Add a batch.

        Parameters
        ----------
        true, pred : tensor
            As in `Accumulator.update`.
        **keywords
            `sample_weight`, `groups` and `clusters` of it.
        """
        self._accumulator.update(_on_cpu(true), _on_cpu(pred), **keywords)

    def reset(self) -> None:
        """Forget all batches."""
        super().reset()
        self._accumulator = self._empty.copy()

    def compute(self) -> dict[str, torch.Tensor]:
        """The values of all metrics."""
        report = self._accumulator.compute()
        return {
            name: torch.tensor(report[name].value, dtype=torch.float64, device=self.device)
            for name in report
        }


def _on_cpu(given: Any) -> Any:
    return given.detach().cpu() if isinstance(given, torch.Tensor) else given
