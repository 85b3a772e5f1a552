"""Which kernel makes which column (see columns.pyx)."""

from fastent.backends.cython.call cimport Call

cdef object find_steps(Call call)
