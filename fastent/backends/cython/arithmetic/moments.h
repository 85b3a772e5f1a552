/* Σ (m - x)·e and Σ e² over a row of floats in one pass: as three arrays of terms and their sums
   they cost two thirds of the exponentials. Four products are added in float before they are
   widened: two roundings of float, all terms being positive. Reads n elements of x, as many of e. */
#ifndef FASTENT_MOMENTS_H
#define FASTENT_MOMENTS_H

#include "argmax.h"

#if FE_WIDTH > 2 && defined(__FMA__)
#define FE_WIDE_MADD(a, b, c) ((fe_wide_floats)FE_MM(fmadd, ps)((FE_IN_ps)(a), (FE_IN_ps)(b), (FE_IN_ps)(c)))
#else
#define FE_WIDE_MADD(a, b, c) ((a) * (b) + (c))
#endif

/* x - m, where its exponential is 0 at the latest at -104 */
static inline fe_wide_floats fe_fall(fe_wide_floats x, float m) {
    fe_wide_floats fall = x - m, least = (fe_wide_floats){0} - 104.0f;
    return FE_LARGER(float, ps, fall, least);
}

static inline void fe_widen_halves(fe_doubles *low, fe_doubles *high, fe_wide_floats x) {
    *low += fe_widen(fe_half(x, 0));
    *high += fe_widen(fe_half(x, 1));
}

static inline void fe_lane_moments(const float *x, const float *e, ptrdiff_t n, float m,
                                   double *moment, double *square) {
    enum { COUNT = FE_WIDTH * 2 };
    fe_doubles a = {0}, b = a, c = a, d = a;
    fe_wide_floats v, w, falls, squares;
    ptrdiff_t j = 0;
    for (; j + 4 * COUNT <= n; j += 4 * COUNT) {
        w = fe_wide_at(e + j, 0);
        falls = fe_fall(fe_wide_at(x + j, 0), m) * w;
        squares = w * w;
        _Pragma("GCC unroll 4") for (int k = COUNT; k < 4 * COUNT; k += COUNT) {
            w = fe_wide_at(e + j + k, 0);
            falls = FE_WIDE_MADD(fe_fall(fe_wide_at(x + j + k, 0), m), w, falls);
            squares = FE_WIDE_MADD(w, w, squares);
        }
        fe_widen_halves(&a, &b, falls);
        fe_widen_halves(&c, &d, squares);
    }
    for (; j < n; j += COUNT) {
        fe_wide_ints index, kept;
        float last[COUNT] = {0};
        ptrdiff_t back = 0;
        if (j + COUNT <= n) {
            v = fe_wide_at(x + j, 0);
        } else if (n >= COUNT) { /* overlaps the one before: what was added is masked */
            back = j + COUNT - n;
            v = fe_wide_at(x + j - back, 0);
        } else {
            memcpy(last, x, n * sizeof(float));
            v = fe_wide_at(last, 0);
        }
        memcpy(&kept, e + j - back, sizeof kept);
        memcpy(&index, fe_index_float, sizeof index);
        kept &= (index >= (int32_t)back) & (index < (int32_t)(n - j + back));
        w = (fe_wide_floats)kept;
        fe_widen_halves(&a, &b, fe_fall(v, m) * w);
        fe_widen_halves(&c, &d, w * w);
    }
    a += b;
    c += d;
    for (int k = 1; k < FE_WIDTH; k++) {
        a[0] += a[k];
        c[0] += c[k];
    }
    *moment = -a[0];
    *square = c[0];
}

#endif
