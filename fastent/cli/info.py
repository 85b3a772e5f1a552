"""``fastent info``: what a bug report needs."""

from __future__ import annotations

import argparse

import fastent
from fastent.cli.signals import Signals


def run(options: argparse.Namespace, signals: Signals) -> int:
    for name, value in fastent.show_config().items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {version}" for key, version in value.items())
        elif isinstance(value, list):
            value = ", ".join(value)
        print(f"{name}: {value}")
    return 0
