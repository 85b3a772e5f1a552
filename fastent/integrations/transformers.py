"""`compute_metrics` of the transformers `Trainer` that never keeps logits.

With ``TrainingArguments(batch_eval_metrics=True)`` the Trainer hands over one batch at a time; sums
are kept, not logits, and every token counts once, however batches were cut.
"""

from __future__ import annotations

from typing import Any, Unpack

from fastent._keywords import AccumulatorKeywords
from fastent.accumulator import Accumulator


class TrainerMetrics:
    """Metrics of an evaluation, by `fastent.Accumulator`.

    Parameters
    ----------
    metrics : str or sequence of str
        As in `fastent.Accumulator`.
    shift : bool
        Whether the label of a position is the next token, as of causal language models: the first
        labels and the last logits are then left out.
    **keywords
        Of `fastent.Accumulator`; logits, and labels of −100 are left out, by default.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from fastent.integrations.transformers import TrainerMetrics
    >>> metrics = TrainerMetrics("accuracy")
    >>> batch = SimpleNamespace(predictions=[[1.0, 0.0], [0.0, 1.0]], label_ids=[0, 0])
    >>> metrics(batch, compute_result=True)
    {'accuracy': 0.5}
    """

    def __init__(
        self, metrics: Any, *, shift: bool = False, **keywords: Unpack[AccumulatorKeywords]
    ) -> None:
        if keywords.get("task", "sparse") == "sparse":
            keywords.setdefault("ignore_index", -100)
        keywords.setdefault("kind", "logits")
        self._shift = shift
        self._accumulator = Accumulator(metrics, **keywords)

    def __call__(self, prediction: Any, compute_result: bool = True) -> dict[str, float]:
        """Add a batch, and with the last one give the values and begin anew."""
        pred, true = (
            x[0] if isinstance(x, tuple) else x
            for x in (prediction.predictions, prediction.label_ids)
        )
        if self._shift:
            pred, true = pred[..., :-1, :], true[..., 1:]
        self._accumulator.update(true, pred)
        if not compute_result:
            return {}
        report = self._accumulator.compute()
        self._accumulator.reset()
        return {name: report[name].value for name in report}
