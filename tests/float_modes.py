"""The floating point mode of this thread, set to what a host may set it to."""

import ctypes
import ctypes.util
import platform
import sys
from contextlib import contextmanager

X86 = platform.machine().lower() in ("x86_64", "amd64")
ARM = platform.machine().lower() in ("aarch64", "arm64")
# Bits of MXCSR and FPCR.
MODES = (
    {
        "flush": 0x8000, "denormals_are_zero": 0x0040, "flush_both": 0x8040,
        "down": 0x2000, "up": 0x4000, "towards_zero": 0x6000,
    }
    if X86
    else {"flush": 1 << 24, "down": 2 << 22, "up": 1 << 22, "towards_zero": 3 << 22}
)  # fmt: skip
TRAPS = 0x1F80  # x86: every exception; its bit is 0 where it traps

_fenv = ctypes.create_string_buffer(64)
_libm = ctypes.CDLL(ctypes.util.find_library("m"))


def _place():
    """Offset and width of the control word in fenv_t."""
    mac = sys.platform == "darwin"
    if X86:
        return (4 if mac else 28), 4
    return (8, 8) if mac else (0, 4)


def control():
    """MXCSR or FPCR."""
    at, width = _place()
    assert _libm.fegetenv(_fenv) == 0
    return int.from_bytes(_fenv.raw[at : at + width], sys.byteorder)


def set_control(word):
    at, width = _place()
    assert _libm.fegetenv(_fenv) == 0
    ctypes.memmove(ctypes.addressof(_fenv) + at, word.to_bytes(width, sys.byteorder), width)
    assert _libm.fesetenv(_fenv) == 0


@contextmanager
def mode(name):
    """The mode as long as the context; `trap` makes every exception a signal."""
    before = control()
    set_control((before & ~TRAPS) & ~0x3F if name == "trap" else before | MODES[name])
    try:
        yield
    finally:
        set_control(before)
