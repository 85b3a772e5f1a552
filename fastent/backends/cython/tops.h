/* Largest elements of rows, NaN among them, and what of a row lies beyond its last vector.

   Written with the vector extension of GCC and clang, as the sums are: a plain loop over an array of
   maxima stays scalar in GCC 12 (0.6 ns an element instead of 0.05). Reads nothing outside x. */
#ifndef FASTENT_TOPS_H
#define FASTENT_TOPS_H

#include "lanes.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

/* v where it is larger, else best: one instruction, which GCC 12 does not make of a comparison and
   a selection of vectors */
#if FE_WIDTH == 8
#define FE_LARGER_FLOAT(v, best) ((fe_wide_floats)_mm512_max_ps((__m512)(v), (__m512)(best)))
#define FE_LARGER_DOUBLE(v, best) ((fe_doubles)_mm512_max_pd((__m512d)(v), (__m512d)(best)))
#elif FE_WIDTH == 4
#define FE_LARGER_FLOAT(v, best) ((fe_wide_floats)_mm256_max_ps((__m256)(v), (__m256)(best)))
#define FE_LARGER_DOUBLE(v, best) ((fe_doubles)_mm256_max_pd((__m256d)(v), (__m256d)(best)))
#elif defined(__SSE2__)
#define FE_LARGER_FLOAT(v, best) ((fe_wide_floats)_mm_max_ps((__m128)(v), (__m128)(best)))
#define FE_LARGER_DOUBLE(v, best) ((fe_doubles)_mm_max_pd((__m128d)(v), (__m128d)(best)))
#else
#define FE_SELECT(mask, a, b, INTS) (((INTS)(a) & (mask)) | ((INTS)(b) & ~(mask)))
#define FE_LARGER_FLOAT(v, best) ((fe_wide_floats)FE_SELECT((v) > (best), v, best, fe_wide_ints))
#define FE_LARGER_DOUBLE(v, best) ((fe_doubles)FE_SELECT((v) > (best), v, best, fe_longs))
#endif

/* a[order[0]], a[order[1]], ... */
#if defined(__clang__)
#define FE_TURN(a, order, VECTOR, COUNT)                                                           \
    ({                                                                                             \
        VECTOR turned_;                                                                            \
        for (int k_ = 0; k_ < COUNT; k_++) turned_[k_] = (a)[(order)[k_]];                         \
        turned_;                                                                                   \
    })
#else
#define FE_TURN(a, order, VECTOR, COUNT) __builtin_shuffle(a, order)
#endif

/* fe_lane_top: the largest element of n >= 1 that is no NaN, -inf without any. Four vectors at once,
   because one running maximum waits for itself, and four names, because an array of them stays in
   memory at AVX2 (half of the time of a whole row); the last vector overlaps the one before; the
   lanes are folded by turning them (one at a time they cost as much as 60 vectors).
   fe_lane_nan: whether there is a NaN. Apart, because the kernels of logits learn from their counts
   that there is none. */
#define FE_TOP(NAME, REAL, VECTOR, INTS, INT, INDEX, COUNT, LARGER)                                \
    static inline REAL fe_lane_top_##NAME(const REAL *x, ptrdiff_t n) {                            \
        VECTOR a = (VECTOR){0} - (REAL)INFINITY, b = a, c = a, d = a, v, w, y, z;                  \
        ptrdiff_t j = 0;                                                                           \
        if (n < COUNT) {                                                                           \
            REAL top = -(REAL)INFINITY;                                                            \
            for (; j < n; j++) top = x[j] > top ? x[j] : top;                                      \
            return top;                                                                            \
        }                                                                                          \
        for (; j + 4 * COUNT <= n; j += 4 * COUNT) {                                               \
            memcpy(&v, x + j, sizeof v);                                                           \
            memcpy(&w, x + j + COUNT, sizeof w);                                                   \
            memcpy(&y, x + j + 2 * COUNT, sizeof y);                                               \
            memcpy(&z, x + j + 3 * COUNT, sizeof z);                                               \
            a = LARGER(v, a);                                                                      \
            b = LARGER(w, b);                                                                      \
            c = LARGER(y, c);                                                                      \
            d = LARGER(z, d);                                                                      \
        }                                                                                          \
        for (; j < n; j += COUNT) {                                                                \
            memcpy(&v, x + (j + COUNT <= n ? j : n - COUNT), sizeof v);                            \
            a = LARGER(v, a);                                                                      \
        }                                                                                          \
        b = LARGER(c, b);                                                                          \
        a = LARGER(d, a);                                                                          \
        a = LARGER(b, a);                                                                          \
        for (int by = COUNT / 2; by; by /= 2) {                                                    \
            INTS turned;                                                                           \
            memcpy(&turned, INDEX, sizeof turned);                                                 \
            v = FE_TURN(a, (turned + (INT)by) & (INT)(COUNT - 1), VECTOR, COUNT);                  \
            a = LARGER(v, a);                                                                      \
        }                                                                                          \
        return a[0];                                                                               \
    }                                                                                              \
    static inline int fe_lane_nan_##NAME(const REAL *x, ptrdiff_t n) {                             \
        ptrdiff_t j = 0;                                                                           \
        int nan = 0;                                                                               \
        INTS bad = {0};                                                                            \
        VECTOR v;                                                                                  \
        for (; j + COUNT <= n; j += COUNT) {                                                       \
            memcpy(&v, x + j, sizeof v);                                                           \
            bad |= v != v;                                                                         \
        }                                                                                          \
        for (; j < n; j++) nan |= x[j] != x[j];                                                    \
        for (int k = 0; k < COUNT; k++) nan |= bad[k] != 0;                                        \
        return nan;                                                                                \
    }                                                                                              \
    static inline REAL fe_lane_max_##NAME(const REAL *x, ptrdiff_t n) {                            \
        return fe_lane_nan_##NAME(x, n) ? (REAL)NAN : fe_lane_top_##NAME(x, n);                    \
    }
FE_TOP(float, float, fe_wide_floats, fe_wide_ints, int32_t, fe_index32, (FE_WIDTH * 2), FE_LARGER_FLOAT)
FE_TOP(double, double, fe_doubles, fe_longs, int64_t, fe_index64, FE_WIDTH, FE_LARGER_DOUBLE)

/* How many of x[from .. 15] are below m. */
#if FE_WIDTH == 8
static inline int fe_below_float(const float *x, int from, float m) {
    return __builtin_popcount(_mm512_cmp_ps_mask(_mm512_loadu_ps(x), _mm512_set1_ps(m), _CMP_LT_OQ) >> from);
}
static inline int fe_below_double(const double *x, int from, double m) {
    __m512d top = _mm512_set1_pd(m);
    int low = _mm512_cmp_pd_mask(_mm512_loadu_pd(x), top, _CMP_LT_OQ);
    int high = _mm512_cmp_pd_mask(_mm512_loadu_pd(x + 8), top, _CMP_LT_OQ);
    return __builtin_popcount((high << 8 | low) >> from);
}
#else
static inline int fe_below_float(const float *x, int from, float m) {
    int below = 0;
    for (int k = from; k < 16; k++) below += x[k] < m;
    return below;
}
static inline int fe_below_double(const double *x, int from, double m) {
    int below = 0;
    for (int k = from; k < 16; k++) below += x[k] < m;
    return below;
}
#endif

#endif
