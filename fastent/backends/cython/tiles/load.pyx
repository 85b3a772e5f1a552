"""Copies of rows into tiles, where kernels cannot read them in place: 16-bit, mixed dtypes, strided,
transposed. Compiled per SIMD level, since half the time of a 16-bit kernel is this conversion."""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastent.backends.cython.arithmetic.functions cimport fe_ask, real
from fastent.backends.cython.levels cimport exported
from fastent.backends.cython.tiles.operand cimport (
    BFLOAT16, BOOL, CODES, CODES_AT, FLOAT16, FLOAT32, FLOAT64, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32,
    Loaders, View, lies_across, row_address,
)

cdef extern from "sixteen_bit.h" nogil:
    float fe_half_float(uint16_t)
    float fe_brain_float(uint16_t)
    void fe_halves(const char *, Py_ssize_t, float *)
    void fe_brains(const char *, Py_ssize_t, float *)
    void fe_codes(const char *, Py_ssize_t, float, float, float *)

cdef extern from "across.h" nogil:
    void across "fe_across"(const char *at, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t classes, void *out,
                            Py_ssize_t step, Py_ssize_t ahead)

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

ctypedef fused number:                  # what they become: labels are int64
    real
    int64_t

cdef enum:
    SOME_ROWS = 64                      # converted at once where they are transposed after
    SOME_CLASSES = 8
    PIECE = 512                         # numbers that are asked for at once


cdef inline void copy_run(char *at, Py_ssize_t stride, Py_ssize_t n, number *out, const stored *unused) noexcept nogil:
    """n elements at a distance, aligned or not."""
    cdef Py_ssize_t i
    cdef stored x
    cdef const stored *near = <const stored *>at
    if stride == sizeof(stored) and (<size_t>at) % sizeof(stored) == 0:
        for i in range(n):
            out[i] = <number>near[i]
        return
    for i in range(n):
        memcpy(&x, at + i * stride, sizeof(stored))
        out[i] = <number>x


cdef inline void copy_short(char *at, Py_ssize_t stride, Py_ssize_t n, number *out, bint is_half) noexcept nogil:
    """The same for the 16-bit floats."""
    cdef Py_ssize_t i
    cdef uint16_t x
    if number is float:
        if stride == 2 and is_half:
            fe_halves(at, n, out)
            return
        if stride == 2:
            fe_brains(at, n, out)
            return
    for i in range(n):
        memcpy(&x, at + i * stride, 2)
        out[i] = <number>(fe_half_float(x) if is_half else fe_brain_float(x))


cdef void copy_piece(View *view, char *at, Py_ssize_t stride, Py_ssize_t n, number *out) noexcept nogil:
    """n elements of any dtype at a distance."""
    if view.stored == FLOAT32:
        copy_run(at, stride, n, out, <const float *>NULL)
    elif view.stored == FLOAT64:
        copy_run(at, stride, n, out, <const double *>NULL)
    elif view.stored == FLOAT16 or view.stored == BFLOAT16:
        copy_short(at, stride, n, out, view.stored == FLOAT16)
    elif view.stored == BOOL or view.stored == UINT8:
        copy_run(at, stride, n, out, <const uint8_t *>NULL)
    elif view.stored == INT8:
        copy_run(at, stride, n, out, <const int8_t *>NULL)
    elif view.stored == INT16:
        copy_run(at, stride, n, out, <const int16_t *>NULL)
    elif view.stored == INT32:
        copy_run(at, stride, n, out, <const int32_t *>NULL)
    elif view.stored == INT64:
        copy_run(at, stride, n, out, <const int64_t *>NULL)
    elif view.stored == UINT16:
        copy_run(at, stride, n, out, <const uint16_t *>NULL)
    elif view.stored == UINT32:
        copy_run(at, stride, n, out, <const uint32_t *>NULL)
    else:
        copy_run(at, stride, n, out, <const uint64_t *>NULL)


cdef void copy_elements(View *view, char *at, Py_ssize_t stride, Py_ssize_t n, number *out) noexcept nogil:
    """The same. Where there is no gap the n elements after them, which are the next tile, are asked for:
    memory would rest while the kernel runs."""
    cdef Py_ssize_t some, ahead = n * stride
    while n > 0:
        some = n
        if stride == view.itemsize:
            some = min(n, <Py_ssize_t>PIECE)
            fe_ask(at + ahead, some * stride, False)
        copy_piece(view, at, stride, some, out)
        at += some * stride
        out += some
        n -= some


cdef void copy_codes(const char *row, Py_ssize_t start, Py_ssize_t n, real *out) noexcept nogil:
    """Classes [start, start + n) of a row of codes, decoded."""
    cdef float[PIECE] room
    cdef float scale, least
    cdef Py_ssize_t some, ahead = 2 * n, i
    cdef const char *at = row + CODES_AT + 2 * start
    memcpy(&scale, row, sizeof(float))
    memcpy(&least, row + sizeof(float), sizeof(float))
    while n > 0:
        some = min(n, <Py_ssize_t>PIECE)
        fe_ask(at + ahead, 2 * some, False)
        if real is float:
            fe_codes(at, some, scale, least, out)
        else:
            fe_codes(at, some, scale, least, room)
            for i in range(some):
                out[i] = room[i]
        at += 2 * some
        out += some
        n -= some


cdef void load_across(View *view, char *at, Py_ssize_t down, Py_ssize_t rows, real *out) noexcept nogil:
    """Rows at equal distances that are shorter than those of the classes, as with the class axis
    first: along the rows, which is how the memory runs. What must be converted is, a few classes of
    a few rows at a time, into a block that is transposed from the first-level cache."""
    cdef real block[SOME_CLASSES * SOME_ROWS]
    cdef char *run
    cdef Py_ssize_t r = 0, c, k, n, first, some = min(view.classes, <Py_ssize_t>SOME_CLASSES)
    if view.stored == (FLOAT32 if sizeof(real) == 4 else FLOAT64) and down == sizeof(real):
        across(at, view.class_stride, rows, view.classes, out, view.classes, rows * down)
        return
    while r < rows:
        n = min(<Py_ssize_t>SOME_ROWS, rows - r)
        c = 0
        while c < view.classes:
            first = min(c, view.classes - some)
            for k in range(some):
                run = at + r * down + (first + k) * view.class_stride
                fe_ask(run + rows * down, n * down, False)
                copy_piece(view, run, down, n, block + k * SOME_ROWS)
            across(<char *>block, SOME_ROWS * sizeof(real), n, some, out + r * view.classes + first, view.classes, 0)
            c += some
        r += n


cdef void repeat(number *row, Py_ssize_t classes, Py_ssize_t times) noexcept nogil:
    """The row as often after each other, doubled again and again."""
    cdef Py_ssize_t done = 1, some
    while done < times:
        some = min(done, times - done)
        memcpy(row + done * classes, row, some * classes * sizeof(number))
        done += some


cdef void load_flat(View *view, Py_ssize_t start, Py_ssize_t rest, number *out) noexcept nogil:
    """Classes of a row that has several axes, in the order of its indices."""
    cdef Py_ssize_t n, length = view.shape[view.axes - 1]
    while rest > 0:
        n = min(rest, length - start % length)
        copy_piece(view, row_address(view, start), view.strides[view.axes - 1], n, out)
        start += n
        rest -= n
        out += n


cdef void load(View *view, Py_ssize_t start, Py_ssize_t rows, number *out) noexcept nogil:
    """Rows [start, start + rows) as a contiguous (rows, classes) tile: in runs of rows at equal
    distances, each in the order of the memory."""
    cdef Py_ssize_t n, r, classes = view.classes, wide = view.class_stride
    cdef Py_ssize_t length = view.shape[view.axes - 1] if view.axes > 0 else 1
    cdef Py_ssize_t down = view.strides[view.axes - 1] if view.axes > 0 else 0
    cdef char *at
    if view.flat:
        load_flat(view, 0, classes, out)
        return
    while rows > 0:
        n = min(rows, length - start % length)
        at = row_address(view, start)
        if number is int64_t:
            copy_elements(view, at, down, n, out)
        elif view.stored == CODES:
            for r in range(n):
                copy_codes(at + r * down, 0, classes, out + r * classes)
        elif classes == 1:
            copy_elements(view, at, down, n, out)
        elif wide == view.itemsize and down == classes * wide:
            copy_elements(view, at, wide, n * classes, out)
        elif down == 0:
            copy_piece(view, at, wide, classes, out)
            repeat(out, classes, n)
        elif lies_across(view) and n > 1:
            load_across(view, at, down, n, out)
        else:
            for r in range(n):
                copy_piece(view, at + r * down, wide, classes, out + r * classes)
        start += n
        rows -= n
        out += n * classes


cdef inline void load_part(View *view, Py_ssize_t row, Py_ssize_t start, Py_ssize_t n, real *out) noexcept nogil:
    cdef char *at = row_address(view, row)
    if view.flat:
        load_flat(view, start, n, out)
    elif view.stored == CODES:
        copy_codes(at, start, n, out)
    else:
        copy_elements(view, at + start * view.class_stride, view.class_stride, n, out)


cdef void load_rows(View *view, Py_ssize_t start, Py_ssize_t rows, int wanted, void *out) noexcept nogil:
    if wanted == FLOAT32:
        load(view, start, rows, <float *>out)
    elif wanted == INT64:
        load(view, start, rows, <int64_t *>out)
    else:
        load(view, start, rows, <double *>out)


cdef void load_classes(View *view, Py_ssize_t row, Py_ssize_t start, Py_ssize_t n, int wanted,
                       void *out) noexcept nogil:
    if wanted == FLOAT32:
        load_part(view, row, start, n, <float *>out)
    else:
        load_part(view, row, start, n, <double *>out)


cdef Loaders table
table.rows = load_rows
table.classes = load_classes
functions = exported(&table)
