"""An input array as the kernels need it: where each row is, and how to copy rows into a tile."""

cimport numpy as cnp
from libc.stdint cimport int64_t

from fastent.backends.cython.levels cimport LOAD, functions

cdef enum:
    MOST_AXES = 32

cdef enum Stored:
    FLOAT32, FLOAT64, FLOAT16, BFLOAT16, BOOL, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64,
    CODES                               # a row is a float scale, a float minimum, then 16-bit codes

cdef enum:
    CODES_AT = 8                        # bytes of a row before its codes

ctypedef struct View:
    char *data
    int stored                          # Stored
    Py_ssize_t itemsize
    int axes                            # leading axes, merged where their strides allow
    Py_ssize_t[MOST_AXES] shape, strides
    Py_ssize_t classes                  # 1 for labels, weights and binary operands
    Py_ssize_t class_stride
    bint flat                           # one row of several axes, which are those of its classes

cdef class Operand:
    cdef View view
    cdef readonly object array          # keeps the memory alive
    cdef readonly tuple lead            # leading shape
    cdef readonly Py_ssize_t rows
    cdef readonly Py_ssize_t classes

cdef object WHOLE                        # the axis of an array that is one row

cdef Operand operand(object given, str name, object axis)
cpdef cnp.ndarray class_weights(object given, Py_ssize_t classes)
cdef tuple shape_of(Operand op)
cdef Operand spread(Operand op, str name, object axis, tuple lead)
cdef bint in_place(View *view, int wanted) noexcept nogil
cdef Py_ssize_t load_labels(View *view, Py_ssize_t start, Py_ssize_t rows, int64_t *out) noexcept nogil

# The copying loops of a SIMD level: rows, or classes of one row, as `wanted`: FLOAT32 or FLOAT64; rows of
# integers, one number each, as INT64 too.
ctypedef struct Loaders:
    void (*rows)(View *view, Py_ssize_t start, Py_ssize_t rows, int wanted, void *out) noexcept nogil
    void (*classes)(View *view, Py_ssize_t row, Py_ssize_t start, Py_ssize_t n, int wanted, void *out) noexcept nogil


cdef inline void load_rows(View *view, Py_ssize_t start, Py_ssize_t rows, int wanted, void *out) noexcept nogil:
    (<Loaders *>functions[<int>LOAD]).rows(view, start, rows, wanted, out)


cdef inline void load_classes(View *view, Py_ssize_t row, Py_ssize_t start, Py_ssize_t n, int wanted,
                              void *out) noexcept nogil:
    (<Loaders *>functions[<int>LOAD]).classes(view, row, start, n, wanted, out)


cdef inline void load_doubles(View *view, Py_ssize_t start, Py_ssize_t rows, double *out) noexcept nogil:
    load_rows(view, start, rows, FLOAT64, out)


cdef inline char *row_address(View *view, Py_ssize_t row) noexcept nogil:
    cdef char *at = view.data
    cdef int k
    for k in range(view.axes - 1, 0, -1):
        at += (row % view.shape[k]) * view.strides[k]
        row //= view.shape[k]
    return at + row * view.strides[0] if view.axes > 0 else at


cdef inline Py_ssize_t magnitude(Py_ssize_t x) noexcept nogil:
    return -x if x < 0 else x


cdef inline bint lies_across(View *view) noexcept nogil:
    """Whether neighbours in memory belong to different rows, as with the class axis first."""
    cdef Py_ssize_t down = view.strides[view.axes - 1] if view.axes > 0 else 0
    return view.classes > 1 and down != 0 and not view.flat and magnitude(view.class_stride) > magnitude(down)


cdef inline bint ready_rows(View *view, int wanted) noexcept nogil:
    """Whether each row by itself lies in memory in the wanted form."""
    return (view.stored == wanted
            and (view.classes == 1 or view.class_stride == view.itemsize)
            and not view.flat
            and (<size_t>view.data) % <size_t>view.itemsize == 0)


cdef inline bint repeats(View *view) noexcept nogil:
    """Whether neighbouring rows are one and the same, as where an operand is broadcast."""
    return view.axes > 0 and view.strides[view.axes - 1] == 0


cdef inline bint in_one_run(View *view, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
    """Whether rows [start, start + n) are at equal distances."""
    return view.axes <= 1 or start % view.shape[view.axes - 1] + n <= view.shape[view.axes - 1]
