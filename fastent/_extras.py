"""Packages that only part of fastent needs: where one is missing, one line says how to get it."""

from __future__ import annotations


def missing(error: ModuleNotFoundError, package: str, what: str) -> ModuleNotFoundError:
    """The error to raise where the import of a package failed: it names what to install."""
    if (error.name or "").partition(".")[0] != package:
        return error  # it is there, and lacks something itself
    how = "extra 'dask'" if package == "dask" else f"pip install {INSTALLED.get(package, package)}"
    return ModuleNotFoundError(f"{what} needs the package {package} ({how})", name=package)


INSTALLED = {"sklearn": "scikit-learn"}
