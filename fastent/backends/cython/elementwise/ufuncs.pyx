"""`entr`, `rel_entr` and `kl_div` as NumPy ufuncs whose inner loop is shared among threads.

NumPy settles shapes, dtypes, `out=`, `where=` and overlaps, and hands the loop as many numbers at a
time as lie evenly in memory: all of them for contiguous operands.
"""

cimport numpy as cnp
from libc.string cimport memcpy

from fastent.backends.cython.arithmetic.float_mode cimport FloatMode, enter_default_mode, restore_mode
from fastent.backends.cython.elementwise.terms cimport BLOCK, ENTR, KL_DIV, REL_ENTR, Name, Terms
from fastent.backends.cython.levels cimport TERMS, functions
from fastent.backends.cython.threads cimport run_parallel

cnp.import_array()
cnp.import_ufunc()

cdef extern from * nogil:
    """
    #include <fenv.h>
    static _Thread_local int fe_wanted_threads = 1;
    """
    int wanted_threads "fe_wanted_threads"
    int feclearexcept(int)
    int FE_ALL_EXCEPT

cdef enum:
    PART = 1 << 14                     # numbers a thread takes at a time

LEAST_SHARED = 4 * PART                # numbers from which threads pay


cdef struct Loop:
    Name name
    int operands                        # inputs
    Py_ssize_t itemsize
    char *at[3]                         # inputs, then the output
    Py_ssize_t stride[3]
    Py_ssize_t n


cdef inline void move(const char *at, Py_ssize_t stride, Py_ssize_t n, Py_ssize_t itemsize, char *into,
                      Py_ssize_t step) noexcept nogil:
    """Numbers at one distance to another."""
    cdef Py_ssize_t i
    if itemsize == 4:
        for i in range(n):
            memcpy(into + i * step, at + i * stride, 4)
    else:
        for i in range(n):
            memcpy(into + i * step, at + i * stride, 8)


cdef void run_elements(Loop *loop, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Elements [start, stop), through local arrays where they are not contiguous."""
    cdef double room[3][BLOCK]
    cdef char *at[3]
    cdef Terms terms = (<Terms *>functions[<int>TERMS])[0]
    cdef int k, last = loop.operands
    cdef Py_ssize_t size, step = stop - start
    for k in range(last + 1):
        if loop.stride[k] != loop.itemsize:
            step = BLOCK
    while start < stop:
        size = min(step, stop - start)
        for k in range(last + 1):
            at[k] = loop.at[k] + start * loop.stride[k]
            if loop.stride[k] != loop.itemsize:
                if k < last:
                    move(at[k], loop.stride[k], size, loop.itemsize, <char *>room[k], loop.itemsize)
                at[k] = <char *>room[k]
        terms(loop.name, loop.itemsize == 4, at[0], at[last - 1], at[last], size)
        if loop.stride[last] != loop.itemsize:
            move(at[last], loop.itemsize, size, loop.itemsize, loop.at[last] + start * loop.stride[last],
                 loop.stride[last])
        start += size


cdef void run_part(void *context, Py_ssize_t index, int worker) noexcept nogil:
    cdef Loop *loop = <Loop *>context
    run_elements(loop, index * PART, min((index + 1) * PART, loop.n))


cdef void inner(char **args, cnp.npy_intp *dimensions, cnp.npy_intp *steps, void *data) noexcept nogil:
    """The inner loop of NumPy; `data` is twice the name of the term, and 1 more for doubles."""
    cdef Loop loop
    cdef Py_ssize_t which = <Py_ssize_t>data
    cdef int k
    cdef FloatMode mode = enter_default_mode()
    loop.name = <Name>(which // 2)
    loop.operands = 1 if loop.name == ENTR else 2
    loop.itemsize = 8 if which & 1 else 4
    loop.n = dimensions[0]
    for k in range(loop.operands + 1):
        loop.at[k] = args[k]
        loop.stride[k] = steps[k]
    if wanted_threads > 1 and loop.n > PART:
        run_parallel(run_part, &loop, (loop.n + PART - 1) // PART, wanted_threads)
    else:
        run_elements(&loop, 0, loop.n)
    feclearexcept(FE_ALL_EXCEPT)        # NumPy would make warnings of them
    restore_mode(mode)


cdef cnp.PyUFuncGenericFunction loops[2]
loops[0] = loops[1] = <cnp.PyUFuncGenericFunction>inner

cdef void *places[6]
cdef int k
for k in range(6):
    places[k] = <void *><Py_ssize_t>k

cdef char one[4]
cdef char two[6]
one[:] = [cnp.NPY_FLOAT, cnp.NPY_FLOAT, cnp.NPY_DOUBLE, cnp.NPY_DOUBLE]
two[:] = [cnp.NPY_FLOAT, cnp.NPY_FLOAT, cnp.NPY_FLOAT, cnp.NPY_DOUBLE, cnp.NPY_DOUBLE, cnp.NPY_DOUBLE]

entr = cnp.PyUFunc_FromFuncAndData(loops, &places[2 * <int>ENTR], one, 2, 1, 1, cnp.PyUFunc_None, "entr", "-x log x", 0)
rel_entr = cnp.PyUFunc_FromFuncAndData(
    loops, &places[2 * <int>REL_ENTR], two, 2, 2, 1, cnp.PyUFunc_None, "rel_entr", "x log(x/y)", 0)
kl_div = cnp.PyUFunc_FromFuncAndData(
    loops, &places[2 * <int>KL_DIV], two, 2, 2, 1, cnp.PyUFunc_None, "kl_div", "x log(x/y) - x + y", 0)


def threaded(function, tuple operands, int threads, options):
    """function(*operands, **options) with its loops on that many threads."""
    global wanted_threads
    cdef int before = wanted_threads
    wanted_threads = threads
    try:
        return function(*operands, **options)
    finally:
        wanted_threads = before

