"""``fastent info``: what a bug report needs."""

from __future__ import annotations

import argparse

import fastent
from fastent.cli.outputs import named_errors
from fastent.cli.signals import Signals


def run(options: argparse.Namespace, signals: Signals) -> int:
    lines = []
    for name, value in fastent.show_config().items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {version}" for key, version in value.items())
        elif isinstance(value, list):
            value = ", ".join(value)
        lines.append(f"{name}: {value}")
    with named_errors("standard output"):
        print("\n".join(lines))
    return 0
