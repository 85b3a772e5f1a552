"""Input arrays: viewed without a copy and described once."""

cimport numpy as cnp
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, INT64_MIN
from libc.string cimport memcpy

import numpy as np

from fastent.backends.views import as_numpy

cnp.import_array()

WHOLE = "whole"

ctypedef fused whole:
    int8_t
    int16_t
    int32_t
    int64_t
    uint8_t
    uint16_t
    uint32_t
    uint64_t


CODED = ("scale", "least", "codes")     # fields of a row of codes


def coded_rows(Py_ssize_t classes):
    """The dtype of rows of codes: a number is ``scale * code + least`` in float32. Such rows are operands of
    log-probabilities; what follows the codes up to a multiple of four bytes means nothing."""
    return np.dtype({
        "names": CODED, "formats": ["<f4", "<f4", ("<u2", (classes,))], "offsets": [0, 4, CODES_AT],
        "itemsize": CODES_AT + 4 * ((classes + 1) // 2),
    })


def decoded(given):
    """Rows of codes as the kernels see them: float32, (rows, classes)."""
    cdef Operand op = operand(given, "rows", -1)
    cdef cnp.ndarray out = np.empty((op.rows, op.classes), np.float32)
    cdef float *room = <float *>cnp.PyArray_DATA(out)
    with nogil:
        load_rows(&op.view, 0, op.rows, FLOAT32, room)
    return out.reshape((*op.lead, op.classes))


cdef inline int integers(bint signed, Py_ssize_t size) noexcept:
    if size == 8:
        return INT64 if signed else UINT64
    if size == 4:
        return INT32 if signed else UINT32
    if size == 2:
        return INT16 if signed else UINT16
    return INT8 if signed else UINT8


cdef int stored_as(cnp.ndarray array, str name) except -1:
    cdef int number = cnp.PyArray_TYPE(array)
    if number == cnp.NPY_FLOAT32:
        return FLOAT32
    if number == cnp.NPY_FLOAT64:
        return FLOAT64
    if number == cnp.NPY_FLOAT16:
        return FLOAT16
    if number == cnp.NPY_BOOL:
        return BOOL
    if cnp.PyTypeNum_ISINTEGER(number):
        return integers(cnp.PyTypeNum_ISSIGNED(number), cnp.PyArray_ITEMSIZE(array))
    if array.dtype.name == "bfloat16":
        return BFLOAT16
    raise TypeError(f"{name}: expected float64, float32, float16, bfloat16 or integers, got dtype {array.dtype}")


cdef Operand operand(object given, str name, object axis):
    """Describe an input; `axis` is its class axis, None if it has none."""
    cdef Operand op = Operand.__new__(Operand)
    cdef bint disguised, many = False
    cdef cnp.ndarray array
    cdef int i, k, n, class_axis = -1
    cdef View *view = &op.view
    if cnp.PyArray_CheckExact(given) and cnp.PyArray_TYPE(given) != cnp.NPY_OBJECT:
        array = given
        disguised = False
    else:
        found, disguised = as_numpy(given, name)
        array = found
    if not cnp.PyArray_ISNOTSWAPPED(array):
        array = array.astype(array.dtype.newbyteorder("="))
    if axis is not None and cnp.PyArray_TYPE(array) == cnp.NPY_VOID and array.dtype.names == CODED:
        if axis != -1 and axis != cnp.PyArray_NDIM(array):
            raise ValueError(f"axis: expected the last axis of {name}, whose rows are codes, got {axis}")
        view.stored = CODES
    else:
        view.stored = BFLOAT16 if disguised else stored_as(array, name)
    op.array = array
    view.data = cnp.PyArray_BYTES(array)
    view.itemsize = cnp.PyArray_ITEMSIZE(array)
    n = cnp.PyArray_NDIM(array)
    view.classes = 1
    view.class_stride = view.itemsize
    view.flat = axis is WHOLE
    if view.stored == CODES:
        view.itemsize = view.class_stride = 2
        view.classes = array.dtype["codes"].shape[0]
    elif view.flat:
        if n == 0:
            raise ValueError(f"{name}: expected at least 1 dimension, got a scalar")
    elif axis is not None:
        if n == 0:
            raise ValueError(f"{name}: expected at least 1 dimension, got a scalar")
        class_axis = axis
        if class_axis < -n or class_axis >= n:
            raise ValueError(f"axis: expected an axis of {name}, which has {n} dimensions, got {axis}")
        if class_axis < 0:
            class_axis += n
        view.classes = cnp.PyArray_DIM(array, class_axis)
        view.class_stride = cnp.PyArray_STRIDE(array, class_axis)
    if cnp.PyArray_SIZE(array) == 0 and (view.flat or view.classes == 0):
        raise ValueError(f"{name}: expected at least one class, got shape {tuple_of(array)}")
    op.classes = view.classes
    op.rows = 1
    view.axes = 0
    if n == 2 and class_axis == 1:                      # the usual case, without a loop
        op.rows = cnp.PyArray_DIM(array, 0)
        op.lead = (op.rows,)
        view.axes = 1
        view.shape[0] = op.rows
        view.strides[0] = cnp.PyArray_STRIDE(array, 0)
        return op
    lead = []
    for i in range(n):
        if i == class_axis:
            continue
        lead.append(cnp.PyArray_DIM(array, i))
        op.rows *= cnp.PyArray_DIM(array, i)
        if cnp.PyArray_DIM(array, i) == 1:
            continue
        k = view.axes - 1
        if k >= 0 and view.strides[k] == cnp.PyArray_STRIDE(array, i) * cnp.PyArray_DIM(array, i):
            view.shape[k] *= cnp.PyArray_DIM(array, i)  # one axis with the one before
            view.strides[k] = cnp.PyArray_STRIDE(array, i)
        elif k + 1 == MOST_AXES:
            many = True
        else:
            view.shape[k + 1] = cnp.PyArray_DIM(array, i)
            view.strides[k + 1] = cnp.PyArray_STRIDE(array, i)
            view.axes += 1
    op.lead = tuple(lead)
    if view.flat:                                       # what was found are the axes of the classes
        op.lead = ()
        op.classes = view.classes = op.rows
        op.rows = 1
        if view.axes <= 1:
            view.flat = False
            view.class_stride = view.strides[0] if view.axes else view.itemsize
            view.axes = 0
    if op.rows == 0:
        view.axes = 0                                   # there is none to be found
    elif many:
        raise ValueError(f"{name}: expected at most {<int>MOST_AXES} axes that cannot be read as fewer, got shape {tuple_of(array)}")
    return op


cdef tuple shape_of(Operand op):
    """The shape as a user sees it."""
    return (*op.lead, op.classes) if op.view.stored == CODES else tuple_of(op.array)


cdef Operand spread(Operand op, str name, object axis, tuple lead):
    """The operand with its leading axes broadcast: the same memory, where rows repeat."""
    cdef Operand found
    if op.lead == lead:
        return op
    if axis is None or op.view.stored == CODES:
        found = operand(np.broadcast_to(op.array, lead), name, axis)
    else:
        rows = np.moveaxis(op.array, axis, -1)
        found = operand(np.broadcast_to(rows, (*lead, op.classes)), name, -1)
    found.view.stored = op.view.stored                  # bfloat16 may be in disguise
    return found


cdef tuple tuple_of(cnp.ndarray array):
    return tuple(array.shape[i] for i in range(array.ndim))


cdef bint in_place(View *view, int wanted) noexcept nogil:
    """Whether the rows lie one after the other in the wanted form."""
    return (ready_rows(view, wanted)
            and even(view)
            and (view.axes == 0 or view.shape[0] <= 1 or row_stride(view) == view.classes * view.itemsize))


cdef inline Py_ssize_t copy_labels(View *view, Py_ssize_t start, Py_ssize_t rows, int64_t *out, const whole *unused) noexcept nogil:
    cdef Py_ssize_t r
    cdef whole x
    cdef const char *first = row_address(view, start)
    if even(view) and row_stride(view) == sizeof(whole):
        for r in range(rows):
            memcpy(&x, first + r * sizeof(whole), sizeof(whole))
            out[r] = <int64_t>x
    else:
        for r in range(rows):
            memcpy(&x, row_address(view, start + r), sizeof(whole))
            out[r] = <int64_t>x
    if whole is uint64_t:
        for r in range(rows):                           # what does not fit has a sign now
            out[r] = out[r] if out[r] >= 0 else INT64_MIN
    return -1


cdef Py_ssize_t load_labels(View *view, Py_ssize_t start, Py_ssize_t rows, int64_t *out) noexcept nogil:
    """Labels as int64, never through a float; returns the first row whose label is not a whole
    number, or −1. Numbers beyond int64 become INT64_MIN, which is no class."""
    cdef Py_ssize_t r
    cdef double x = 0
    if view.stored == INT64:
        return copy_labels(view, start, rows, out, <const int64_t *>NULL)
    if view.stored == INT32:
        return copy_labels(view, start, rows, out, <const int32_t *>NULL)
    if view.stored == INT16:
        return copy_labels(view, start, rows, out, <const int16_t *>NULL)
    if view.stored == INT8:
        return copy_labels(view, start, rows, out, <const int8_t *>NULL)
    if view.stored == UINT8 or view.stored == BOOL:
        return copy_labels(view, start, rows, out, <const uint8_t *>NULL)
    if view.stored == UINT16:
        return copy_labels(view, start, rows, out, <const uint16_t *>NULL)
    if view.stored == UINT32:
        return copy_labels(view, start, rows, out, <const uint32_t *>NULL)
    if view.stored == UINT64:
        return copy_labels(view, start, rows, out, <const uint64_t *>NULL)
    for r in range(rows):
        load_doubles(view, start + r, 1, &x)
        if not (x >= -9.2e18 and x <= 9.2e18) or x != <double><int64_t>x:
            return r
        out[r] = <int64_t>x
    return -1
