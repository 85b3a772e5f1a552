"""``fastent demo``: the shipped predictions of digits, scored by the command one would type."""

from __future__ import annotations

import argparse
import os
import shlex
from importlib import resources

from fastent.cli import score
from fastent.cli.arguments import parser
from fastent.cli.outputs import named_errors, write_whole
from fastent.cli.signals import Signals

FOLDER = "fastent-demo"
FILES = ("digits-logits.npy", "digits-labels.npy")


def run(options: argparse.Namespace, signals: Signals) -> int:
    with named_errors(FOLDER):
        os.makedirs(FOLDER, exist_ok=True)
    for name in FILES:
        data = resources.files("fastent").joinpath("data", name).read_bytes()
        write_whole(os.path.join(FOLDER, name), [data])
    logits, labels = (os.path.join(FOLDER, name) for name in FILES)
    words = ["score", logits, "--labels", labels, "--kind", "logits"]
    with named_errors("standard output"):
        print("Digits of scikit-learn, each predicted by a model that has not seen it.\n")
        print(shlex.join(["fastent", *words]) + "\n", flush=True)
    return score.run(parser().parse_args(words), signals)
