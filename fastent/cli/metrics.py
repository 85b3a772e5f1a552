"""``fastent metrics``: what each metric is."""

from __future__ import annotations

import argparse
import sys

from fastent.cli.signals import Signals
from fastent.metrics import RECORDS
from fastent.report.table import print_table


def run(options: argparse.Namespace, signals: Signals) -> int:
    rows = [[m.name, " ".join(m.tasks), m.range, m.unit, m.description] for m in RECORDS]
    print_table("", ["metric", "tasks", "range", "unit", "definition"], rows, sys.stdout)
    return 0
