"""Input arrays: viewed without a copy and described once."""

cimport numpy as cnp
from libc.stdint cimport int64_t, INT64_MIN

import numpy as np

from fastent.backends.views import as_numpy

cnp.import_array()

WHOLE = "whole"

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


cdef int stored_as(cnp.ndarray array, str name) except -1:
    cdef int number = cnp.PyArray_TYPE(array), size
    if number == cnp.NPY_FLOAT32:
        return FLOAT32
    if number == cnp.NPY_FLOAT64:
        return FLOAT64
    if number == cnp.NPY_FLOAT16:
        return FLOAT16
    if number == cnp.NPY_BOOL:
        return BOOL
    if cnp.PyTypeNum_ISINTEGER(number):
        size = cnp.PyArray_ITEMSIZE(array)
        return (INT8 if cnp.PyTypeNum_ISSIGNED(number) else UINT8) + (size > 1) + (size > 2) + (size > 4)
    if array.dtype.name == "bfloat16":
        return BFLOAT16
    raise TypeError(f"{name}: expected float64, float32, float16, bfloat16 or integers, got dtype {array.dtype}")


cdef Operand operand(object given, str name, object axis):
    """Describe an input; `axis` is its class axis, None if it has none."""
    cdef Operand op = Operand.__new__(Operand)
    cdef bint disguised = False, many = False
    cdef cnp.ndarray array
    cdef int i, k, n, class_axis = -1
    cdef Py_ssize_t size, stride
    cdef View *view = &op.view
    if cnp.PyArray_CheckExact(given) and cnp.PyArray_TYPE(given) != cnp.NPY_OBJECT:
        array = given
    else:
        array, disguised = as_numpy(given, name)
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
    elif axis is not None and n == 0:
        raise ValueError(f"{name}: expected at least 1 dimension, got a scalar")
    elif axis is not None and not view.flat:
        class_axis = axis
        if class_axis < -n or class_axis >= n:
            raise ValueError(f"axis: expected an axis of {name}, which has {n} dimensions, got {axis}")
        if class_axis < 0:
            class_axis += n
        view.classes = cnp.PyArray_DIM(array, class_axis)
        view.class_stride = cnp.PyArray_STRIDE(array, class_axis)
    if cnp.PyArray_SIZE(array) == 0 and (view.flat or view.classes == 0):
        raise ValueError(f"{name}: expected at least one class, got shape {op.array.shape}")
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
        size, stride = cnp.PyArray_DIM(array, i), cnp.PyArray_STRIDE(array, i)
        lead.append(size)
        op.rows *= size
        k = view.axes - 1
        if size == 1:
            continue
        if k >= 0 and view.strides[k] == size * stride:
            view.shape[k] *= size                       # one axis with the one before
            view.strides[k] = stride
        elif view.axes == MOST_AXES:
            many = True
        else:
            view.shape[view.axes] = size
            view.strides[view.axes] = stride
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
        raise ValueError(f"{name}: expected at most {<int>MOST_AXES} axes that cannot be read as fewer, got shape {op.array.shape}")
    return op


cpdef cnp.ndarray class_weights(object given, Py_ssize_t classes):
    """Weights of classes as contiguous float64, to be read only; none of them is below 0 or NaN."""
    cdef Operand op = operand(given, "class_weight", None)
    cdef cnp.ndarray found
    cdef double *w
    cdef Py_ssize_t c
    if op.lead != (classes,):
        raise ValueError(f"class_weight: expected shape ({classes},), got {op.lead}")
    found = op.array
    if not in_place(&op.view, FLOAT64):
        found = np.empty(classes)
        load_doubles(&op.view, 0, classes, <double *>cnp.PyArray_DATA(found))
    w = <double *>cnp.PyArray_DATA(found)
    for c in range(classes):
        if not w[c] >= 0:
            raise ValueError(f"class_weight: expected weights of at least 0 that are not NaN, got {w[c]!r} for class {c}")
    return found


cdef tuple shape_of(Operand op):
    """The shape as a user sees it."""
    return (*op.lead, op.classes) if op.view.stored == CODES else op.array.shape


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


cdef bint in_place(View *view, int wanted) noexcept nogil:
    """Whether the rows lie one after the other in the wanted form."""
    return ready_rows(view, wanted) and (
        view.axes == 0
        or (view.axes == 1 and (view.shape[0] <= 1 or view.strides[0] == view.classes * view.itemsize)))


cdef Py_ssize_t load_labels(View *view, Py_ssize_t start, Py_ssize_t rows, int64_t *out) noexcept nogil:
    """Labels as int64, never through a float; returns the first row whose label is not a whole
    number, or −1. Numbers beyond int64 become INT64_MIN, which is no class."""
    cdef Py_ssize_t r
    cdef double x = 0
    if view.stored >= BOOL:
        load_rows(view, start, rows, INT64, out)
        for r in range(rows if view.stored == UINT64 else 0):
            out[r] = out[r] if out[r] >= 0 else INT64_MIN       # what does not fit has a sign now
        return -1
    for r in range(rows):
        load_doubles(view, start + r, 1, &x)
        if not (x >= -9.2e18 and x <= 9.2e18) or x != <double><int64_t>x:
            return r
        out[r] = <int64_t>x
    return -1
