"""Make the demo's data: out-of-fold logits of a classifier of scikit-learn's digits.

Run it from the root of a clone; it rewrites the two files in fastent/data with the same bytes.

Newton's method solves the convex problem to rounding error, and the logits are rounded to
multiples of 2^-10, so that the last bits of another BLAS do not change the files.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from threadpoolctl import threadpool_limits

DESTINATION = Path(__file__).resolve().parent.parent / "fastent" / "data"
GRID = 1024


def digits_predictions() -> tuple[np.ndarray, np.ndarray]:
    """Float32 logits of every digit by a model that has not seen it, and the labels."""
    images, labels = load_digits(return_X_y=True)
    model = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-9, max_iter=200)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    with threadpool_limits(1):  # matrices this small only wait for each other's threads
        logits = cross_val_predict(model, images / 16, labels, cv=folds, method="decision_function")
    return (np.rint(logits * GRID) / GRID).astype("<f4"), labels.astype("<i8")


def main(destination: Path = DESTINATION) -> None:
    logits, labels = digits_predictions()
    np.save(destination / "digits-logits.npy", logits)
    np.save(destination / "digits-labels.npy", labels)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
