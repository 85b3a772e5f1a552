"""Copies of rows into tiles, where kernels cannot read them in place: 16-bit, mixed dtypes, strided,
transposed. Compiled per SIMD level, since half the time of a 16-bit kernel is this conversion."""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport (
    int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t,
)
from libc.string cimport memcpy

from fastent.backends.cython.elementary cimport fe_from_bits_float, real
from fastent.backends.cython.operand cimport (
    BFLOAT16, BOOL, FLOAT16, FLOAT32, FLOAT64, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32,
    Loaders, View, even, row_address, row_stride,
)

cdef extern from * nogil:
    void prefetch "__builtin_prefetch"(const void *)

ctypedef fused stored:
    float
    double
    int8_t
    int16_t
    int32_t
    int64_t
    uint8_t
    uint16_t
    uint32_t
    uint64_t


cdef enum:
    BLOCK = 64                          # rows


cdef inline void prefetch_run(const char *at, Py_ssize_t size) noexcept nogil:
    """Ask for a run of memory; an address that is not ours does no harm."""
    cdef Py_ssize_t line
    for line in range((min(size, 512) + 63) // 64):
        prefetch(at + 64 * line)


cdef inline float half(uint16_t bits) noexcept nogil:
    """float16 to float: exact, subnormals, infinities and NaN included."""
    cdef uint32_t magnitude = <uint32_t>(bits & 0x7fff) << 13
    cdef uint32_t sign = <uint32_t>(bits & 0x8000) << 16
    cdef uint32_t normal = magnitude + (<uint32_t>112 << 23)
    # a subnormal: its fraction on top of 2^-14, minus 2^-14
    cdef float small = fe_from_bits_float(magnitude + (<uint32_t>113 << 23)) - <float>6.103515625e-05
    cdef float value = fe_from_bits_float(
        normal + (<uint32_t>112 << 23) if magnitude >= 0x0f800000 else normal)
    value = small if magnitude < 0x00800000 else value
    return -value if sign else value


cdef inline float brain(uint16_t bits) noexcept nogil:
    return fe_from_bits_float(<uint32_t>bits << 16)


cdef inline void copy_run(char *at, Py_ssize_t stride, Py_ssize_t n, real *out, Py_ssize_t step, const stored *unused) noexcept nogil:
    """n elements at a distance, aligned or not, to out[0], out[step], ..."""
    cdef Py_ssize_t i
    cdef stored x
    cdef const stored *near = <const stored *>at
    if stride == sizeof(stored) and step == 1 and (<size_t>at) % sizeof(stored) == 0:
        for i in range(n):
            out[i] = <real>near[i]
        return
    for i in range(n):
        memcpy(&x, at + i * stride, sizeof(stored))
        out[i * step] = <real>x


cdef inline void copy_short(char *at, Py_ssize_t stride, Py_ssize_t n, real *out, Py_ssize_t step, bint is_half) noexcept nogil:
    """The same for the 16-bit floats."""
    cdef Py_ssize_t i
    cdef uint16_t x
    cdef const uint16_t *near = <const uint16_t *>at
    if stride == 2 and step == 1 and (<size_t>at) % 2 == 0:
        if is_half:
            for i in range(n):
                out[i] = half(near[i])
        else:
            for i in range(n):
                out[i] = brain(near[i])
        return
    for i in range(n):
        memcpy(&x, at + i * stride, 2)
        out[i * step] = half(x) if is_half else brain(x)


cdef void copy_elements(View *view, char *at, Py_ssize_t stride, Py_ssize_t n, real *out, Py_ssize_t step) noexcept nogil:
    if view.stored == FLOAT32:
        copy_run(at, stride, n, out, step, <const float *>NULL)
    elif view.stored == FLOAT64:
        copy_run(at, stride, n, out, step, <const double *>NULL)
    elif view.stored == FLOAT16 or view.stored == BFLOAT16:
        copy_short(at, stride, n, out, step, view.stored == FLOAT16)
    elif view.stored == BOOL or view.stored == UINT8:
        copy_run(at, stride, n, out, step, <const uint8_t *>NULL)
    elif view.stored == INT8:
        copy_run(at, stride, n, out, step, <const int8_t *>NULL)
    elif view.stored == INT16:
        copy_run(at, stride, n, out, step, <const int16_t *>NULL)
    elif view.stored == INT32:
        copy_run(at, stride, n, out, step, <const int32_t *>NULL)
    elif view.stored == INT64:
        copy_run(at, stride, n, out, step, <const int64_t *>NULL)
    elif view.stored == UINT16:
        copy_run(at, stride, n, out, step, <const uint16_t *>NULL)
    elif view.stored == UINT32:
        copy_run(at, stride, n, out, step, <const uint32_t *>NULL)
    else:
        copy_run(at, stride, n, out, step, <const uint64_t *>NULL)


cdef inline Py_ssize_t magnitude(Py_ssize_t x) noexcept nogil:
    return -x if x < 0 else x


cdef void load(View *view, Py_ssize_t start, Py_ssize_t rows, real *out) noexcept nogil:
    """Rows [start, start + rows) as a contiguous (rows, classes) tile."""
    cdef Py_ssize_t r, c, n, classes = view.classes, down = row_stride(view)
    cdef char *at
    if even(view) and magnitude(view.class_stride) > magnitude(down) and view.axes == 1:
        # class axis first: along the rows, which is how the memory runs, in blocks of rows that
        # stay in the first-level cache on the other side. The next block is asked for ahead, as no
        # hardware prefetcher follows a hundred streams (3.2 ns a pair of KL without, 2.0 with).
        for r in range((rows + BLOCK - 1) // BLOCK):
            n = min(BLOCK, rows - r * BLOCK)
            for c in range(classes):
                at = view.data + (start + r * BLOCK) * down + c * view.class_stride
                prefetch_run(at + BLOCK * down, BLOCK * magnitude(down))
                copy_elements(view, at, down, n, out + r * BLOCK * classes + c, classes)
    elif even(view) and classes == 1:
        copy_elements(view, view.data + start * down, down, rows, out, 1)
    else:
        for r in range(rows):
            copy_elements(view, row_address(view, start + r), view.class_stride, classes,
                          out + r * classes, 1)


cdef void load_floats(View *view, Py_ssize_t start, Py_ssize_t rows, float *out) noexcept nogil:
    load(view, start, rows, out)


cdef void load_doubles(View *view, Py_ssize_t start, Py_ssize_t rows, double *out) noexcept nogil:
    load(view, start, rows, out)


cdef void load_float_classes(View *view, Py_ssize_t row, Py_ssize_t start, Py_ssize_t n, float *out) noexcept nogil:
    copy_elements(view, row_address(view, row) + start * view.class_stride, view.class_stride, n, out, 1)


cdef void load_double_classes(View *view, Py_ssize_t row, Py_ssize_t start, Py_ssize_t n, double *out) noexcept nogil:
    copy_elements(view, row_address(view, row) + start * view.class_stride, view.class_stride, n, out, 1)


cdef Loaders table
table.floats = load_floats
table.doubles = load_doubles
table.float_classes = load_float_classes
table.double_classes = load_double_classes


def functions():
    """A capsule of the loaders of this SIMD level, for `operand.use_loaders`."""
    return PyCapsule_New(&table, "fastent.loaders", NULL)
