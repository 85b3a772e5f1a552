"""``fastent info``: what a bug report needs."""

from __future__ import annotations

import argparse

import fastent
from fastent.cli.signals import Signals


def run(options: argparse.Namespace, signals: Signals) -> int:
    fastent.show_config()
    return 0
