"""Nothing to call from Python: `cimport fastent.cython_api` from Cython, see cython_api.pxd."""

__pyx_capi__: dict[str, object]  # the functions, as capsules
__test__: dict[str, str]
