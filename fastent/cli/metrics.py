"""``fastent metrics``: what each metric is."""

from __future__ import annotations

import argparse

from fastent.cli.signals import Signals
from fastent.metrics import RECORDS


def run(options: argparse.Namespace, signals: Signals) -> int:
    for metric in RECORDS:
        unit = f", in {metric.unit}" if metric.unit else ""
        print(f"{metric.name}: {', '.join(metric.tasks)}")
        print(f"    {metric.description}")
        print(f"    values {metric.range}{unit}")
    return 0
