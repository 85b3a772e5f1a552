"""Says what is wrong where the compiled modules are missing, as in a clone that is not built."""

try:
    import fastent.backends.cython.levels  # noqa: F401
except ModuleNotFoundError as _error:
    if not (_error.name or "").startswith("fastent."):
        raise
    raise ImportError(
        "fastent: this is its source, without compiled modules: leave the folder to import what is "
        "installed, or run `pip install -e .` in it"
    ) from None
