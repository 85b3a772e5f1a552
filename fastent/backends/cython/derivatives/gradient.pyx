"""Derivatives of the summed cross-entropy with respect to the logits.

With q = softmax(x), u_k = w_k·t_k (target times weights of terms) and W = Σ u, the gradient of a
row is W·q − u and the diagonal of its Hessian W·q·(1 − q). The largest class b of a confident row
has q_b = 1 up to rounding; there −Σ_{k≠b} (W·q_k − u_k) is taken, as the gradient sums to 0, and
1 − q_b = s/(1 + s) with s the sum of the other exponentials. All arithmetic is in double.
"""

from libc.stdint cimport int64_t
from libc.string cimport memset

from fastent.backends.cython.arithmetic.functions cimport INFINITY, NAN, fe_lane_max, stored
from fastent.backends.cython.kernels.logits_exp cimport Scale, exp_over, scale_of
from fastent.backends.cython.derivatives.interface cimport (
    FEW_SLOPES, LIGHTGBM, XGBOOST, Slope, Slopes, exponentials, exponentials_together,
)
from fastent.backends.cython.levels cimport exported
from fastent.backends.cython.kernels.interface cimport NEGATIVE, RANGE, ROW_SUM, BadRow
from fastent.backends.cython.arithmetic.sums cimport row_sum


cdef inline void complain(Slopes *tile, Py_ssize_t row, int code, double number) noexcept nogil:
    if tile.bad.row < 0:
        tile.bad = BadRow(row=row, code=code, operand=0, number=number)


cdef inline bint skipped(Slopes *tile, Py_ssize_t r) noexcept nogil:
    return ((tile.labels != NULL and tile.labels[r] < 0) or (tile.weight != NULL and tile.weight[r] == 0))


cdef double others(const stored *x, Py_ssize_t n, double top, double *e) noexcept nogil:
    """s = Σ e over all classes but one at the top; ties at the top get their e = 1."""
    cdef Py_ssize_t k
    cdef int64_t ties = 0               # whole, so that the loop is a vector one
    cdef double s
    if not (top > -INFINITY):                           # NaN, or no class with any mass
        for k in range(n):
            e[k] = NAN
        return NAN
    if top == INFINITY:                                 # certainty, shared by ties
        memset(e, 0, n * sizeof(double))
    s = row_sum(e, n)
    for k in range(n):
        ties += x[k] == top
        e[k] = 1.0 if x[k] == top else e[k]
    return s + <double>(ties - 1)


cdef bint target_terms(Slopes *tile, Py_ssize_t r, double *u) noexcept nogil:
    """u = weights of terms times the smoothed target; False for a bad row."""
    cdef Py_ssize_t k, n = tile.classes
    cdef double keep = 1 - tile.smoothing, even = tile.smoothing / n, mass
    cdef const double *t = tile.target + r * n
    cdef const double *terms = tile.terms + r * tile.terms_stride
    cdef bint negative = False
    if tile.target == NULL:
        for k in range(n):
            u[k] = even
        u[tile.labels[r]] += keep
    else:
        for k in range(n):
            u[k] = t[k]
            negative |= t[k] < 0
        mass = row_sum(u, n)
        if negative:
            for k in range(n):
                if t[k] < 0:
                    complain(tile, r, NEGATIVE, t[k])
                    return False
        if mass < 1 - tile.tolerance or mass > 1 + tile.tolerance:
            complain(tile, r, ROW_SUM, mass)
            return False
        keep /= mass
        for k in range(n):
            u[k] = keep * u[k] + even
    if tile.terms != NULL:
        for k in range(n):
            u[k] *= terms[k]
    return True


cdef inline double curvature_scale(int curvature, Py_ssize_t n) noexcept nogil:
    """What the boosting libraries put before W·q·(1 − q) of several classes."""
    if curvature == XGBOOST:
        return 2
    return <double>n / (n - 1) if curvature == LIGHTGBM and n > 1 else 1


cdef void put_hessian(stored *h, const double *e, Py_ssize_t n, double s, double mass, int curvature) noexcept nogil:
    cdef Py_ssize_t k
    cdef double whole = 1 + s, v
    cdef double unit = mass * curvature_scale(curvature, n) / whole / whole
    cdef double floor = 1e-16 if curvature == XGBOOST else 0
    for k in range(n):
        v = unit * e[k] * (s if e[k] == 1 else whole - e[k])
        h[k] = <stored>(floor if v < floor else v)


cdef void put_gradient(Slopes *tile, Py_ssize_t r, stored *g, const stored *x, double top, double s, double *e, double *u) noexcept nogil:
    """The row's derivatives; e holds its exponentials, u its weighted target if it is dense."""
    cdef Py_ssize_t k, b = 0, n = tile.classes
    cdef double weight = tile.weight[r] if tile.weight != NULL else 1
    cdef double mass, unit, own
    if u == NULL:
        k = tile.labels[r]
        mass = weight * (tile.terms[r * tile.terms_stride + k] if tile.terms != NULL else 1)
        unit = mass / (1 + s)
        # x may be g: what is needed of it is read first
        own = unit * (s if e[k] == 1 else 1 + s - e[k])
        for b in range(n):
            g[b] = <stored>(unit * e[b])
        g[k] = <stored>-own
    else:
        mass = row_sum(u, n)
        unit = mass / (1 + s)
        for k in range(n):
            u[k] = unit * e[k] - u[k]
        if s < 1:
            while x[b] != top:
                b += 1
            u[b] = 0
            u[b] = -row_sum(u, n)
        for k in range(n):
            g[k] = <stored>(weight * u[k])
        mass *= weight
    if tile.hessian != NULL:
        put_hessian(<stored *>tile.hessian + r * n, e, n, s, mass, tile.curvature)


cdef void put_nothing(Slopes *tile, Py_ssize_t r, stored *g) noexcept nogil:
    cdef Py_ssize_t k
    cdef stored *h = <stored *>tile.hessian + r * tile.classes
    for k in range(tile.classes):
        g[k] = 0
        if tile.hessian != NULL:
            h[k] = <stored>(1e-16 if tile.curvature == XGBOOST else 0)


cdef void gradient_rows_of(Slopes *tile, const stored *x) noexcept nogil:
    cdef Py_ssize_t r, n = tile.classes
    cdef double *e = tile.scratch
    cdef double *maxima = e + tile.room
    cdef double *u = maxima + tile.room
    cdef double top, s
    cdef stored *g = <stored *>tile.gradient
    cdef bint dense = tile.target != NULL or tile.smoothing != 0
    cdef bint together = n <= FEW_SLOPES and not tile.only_check
    if together:
        exponentials_together(x, tile.rows, n, maxima, e)
    for r in range(tile.rows):
        if skipped(tile, r):
            if not tile.only_check:
                put_nothing(tile, r, g + r * n)
            continue
        if tile.only_check:
            target_terms(tile, r, u)
            continue
        if together:
            e = tile.scratch + r * n
            top = maxima[r * n]
        else:
            top = fe_lane_max(x + r * n, n)
            exponentials(x + r * n, n, top, e)
        s = others(x + r * n, n, top, e)
        if not dense:
            put_gradient(tile, r, g + r * n, x + r * n, top, s, e, NULL)
        elif target_terms(tile, r, u):
            put_gradient(tile, r, g + r * n, x + r * n, top, s, e, u)


cdef void elements_of(Slopes *tile, const stored *x) noexcept nogil:
    """One logit an element: with a = e^−|x|, q is 1/(1+a) or a/(1+a), and q − t the difference of
    the two small ones."""
    cdef Scale scale = scale_of(1)
    cdef Py_ssize_t r
    cdef stored *g = <stored *>tile.gradient
    cdef stored *h = <stored *>tile.hessian
    cdef double keep = 1 - tile.smoothing, even = 0.5 * tile.smoothing
    cdef double a, t, v, w, low, floor = 1e-16 if tile.curvature == XGBOOST else 0
    cdef bint wrong = False, idle
    for r in range(tile.rows):
        t = tile.target[r]
        idle = tile.weight != NULL and tile.weight[r] == 0
        wrong |= ((t < 0) | (t > 1)) & (not idle)
    if wrong:
        for r in range(tile.rows):
            t = tile.target[r]
            if (t < 0 or t > 1) and not skipped(tile, r):
                complain(tile, r, RANGE, t)
                return
    if tile.only_check:
        return
    for r in range(tile.rows):
        v = x[r]
        w = tile.weight[r] if tile.weight != NULL else 1
        t = tile.target[r]
        a = exp_over(-v if v > 0 else v, 0, scale)
        a = a if v == v else v
        low = a / (1 + a)
        v = ((keep * (1 - t) + even) - low) if v > 0 else (low - (keep * t + even))
        g[r] = <stored>(w * v if w != 0 else 0)
        if h != NULL:
            a = low / (1 + a)
            a = floor if a < floor else a
            h[r] = <stored>(w * a if w != 0 else 0)


cdef void slopes_of(Slopes *tile, const stored *x) noexcept nogil:
    if tile.by_number:
        elements_of(tile, x)
    else:
        gradient_rows_of(tile, x)


cdef void slopes(Slopes *tile) noexcept nogil:
    if tile.single:
        slopes_of(tile, <const float *>tile.x)
    else:
        slopes_of(tile, <const double *>tile.x)


cdef Slope table = slopes
functions = exported(&table)
