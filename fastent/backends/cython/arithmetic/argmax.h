/* Largest elements of rows, NaN among them, and copies of what of a row must not be added up as it is.

   Written with the vector extension of GCC and clang, as the sums are: a plain loop over an array of
   maxima stays scalar in GCC 12 (0.6 ns an element instead of 0.05). Reads nothing outside x. */
#ifndef FASTENT_TOPS_H
#define FASTENT_TOPS_H

#include "lane_sums.h"

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

/* Lanes without NaN so far, less those that are NaN in one of two or four vectors, and lanes as bits. At the
   highest level a comparison takes the mask of another in: joining all masks cost 2 % of a long row. */
#if FE_WIDTH == 8
typedef __mmask16 fe_sane_floats;
typedef __mmask8 fe_sane_doubles;
#define FE_SANE_FLOAT(sane, a, b)                                                                  \
    _kand_mask16(sane, _mm512_cmp_ps_mask((__m512)(a), (__m512)(b), _CMP_ORD_Q))
#define FE_SANE_DOUBLE(sane, a, b)                                                                 \
    _kand_mask8(sane, _mm512_cmp_pd_mask((__m512d)(a), (__m512d)(b), _CMP_ORD_Q))
#define FE_SANE_FOUR_FLOAT(sane, a, b, c, d)                                                       \
    _kand_mask16(sane, _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask((__m512)(a), (__m512)(b),        \
        _CMP_ORD_Q), (__m512)(c), (__m512)(d), _CMP_ORD_Q))
#define FE_SANE_FOUR_DOUBLE(sane, a, b, c, d)                                                      \
    _kand_mask8(sane, _mm512_mask_cmp_pd_mask(_mm512_cmp_pd_mask((__m512d)(a), (__m512d)(b),       \
        _CMP_ORD_Q), (__m512d)(c), (__m512d)(d), _CMP_ORD_Q))
#define FE_BITS_FLOAT(lanes) (lanes)
#define FE_BITS_DOUBLE(lanes) (lanes)
#define FE_EQUAL_FLOAT(a, b) _mm512_cmp_ps_mask((__m512)(a), (__m512)(b), _CMP_EQ_OQ)
#define FE_EQUAL_DOUBLE(a, b) _mm512_cmp_pd_mask((__m512d)(a), (__m512d)(b), _CMP_EQ_OQ)
#else
typedef fe_wide_ints fe_sane_floats;
typedef fe_longs fe_sane_doubles;
#if FE_WIDTH == 4
#define FE_SANE_FLOAT(sane, a, b)                                                                  \
    ((sane) & (fe_wide_ints)_mm256_cmp_ps((__m256)(a), (__m256)(b), _CMP_ORD_Q))
#define FE_SANE_DOUBLE(sane, a, b)                                                                 \
    ((sane) & (fe_longs)_mm256_cmp_pd((__m256d)(a), (__m256d)(b), _CMP_ORD_Q))
#define FE_BITS_FLOAT(lanes) ((unsigned)_mm256_movemask_ps((__m256)(lanes)))
#define FE_BITS_DOUBLE(lanes) ((unsigned)_mm256_movemask_pd((__m256d)(lanes)))
#elif defined(__SSE2__)
#define FE_SANE_FLOAT(sane, a, b) ((sane) & (fe_wide_ints)_mm_cmpord_ps((__m128)(a), (__m128)(b)))
#define FE_SANE_DOUBLE(sane, a, b) ((sane) & (fe_longs)_mm_cmpord_pd((__m128d)(a), (__m128d)(b)))
#define FE_BITS_FLOAT(lanes) ((unsigned)_mm_movemask_ps((__m128)(lanes)))
#define FE_BITS_DOUBLE(lanes) ((unsigned)_mm_movemask_pd((__m128d)(lanes)))
#else
#define FE_SANE_FLOAT(sane, a, b) ((sane) & ((a) == (a)) & ((b) == (b)))
#define FE_SANE_DOUBLE FE_SANE_FLOAT
#define FE_BITS_FLOAT(lanes)                                                                       \
    ({                                                                                             \
        unsigned bits_ = 0;                                                                        \
        for (unsigned k_ = 0; k_ < sizeof(lanes) / sizeof((lanes)[0]); k_++)                       \
            bits_ |= (unsigned)((lanes)[k_] != 0) << k_;                                           \
        bits_;                                                                                     \
    })
#define FE_BITS_DOUBLE FE_BITS_FLOAT
#endif
#define FE_SANE_FOUR_FLOAT(sane, a, b, c, d) FE_SANE_FLOAT(FE_SANE_FLOAT(sane, a, b), c, d)
#define FE_SANE_FOUR_DOUBLE(sane, a, b, c, d) FE_SANE_DOUBLE(FE_SANE_DOUBLE(sane, a, b), c, d)
#define FE_EQUAL_FLOAT(a, b) FE_BITS_FLOAT((a) == (b))
#define FE_EQUAL_DOUBLE(a, b) FE_BITS_DOUBLE((a) == (b))
#endif

/* A loaded vector that GCC shall not load a second time instead of keeping it. */
#if FE_WIDTH > 2
#define FE_KEEP(v) __asm__("" : "+v"(v))
#else
#define FE_KEEP(v)
#endif

/* Lanes of v above `bound`, counted in `above`: bits of a mask by the integer units, as a masked addition
   costs the vector units as much as the comparison. */
#if FE_WIDTH == 8
typedef int64_t fe_above_floats, fe_above_doubles;
#define FE_COUNT_FLOAT(above, v, bound)                                                            \
    ((above) + __builtin_popcount(_mm512_cmp_ps_mask((__m512)(v), (__m512)(bound), _CMP_GT_OQ)))
#define FE_COUNT_DOUBLE(above, v, bound)                                                           \
    ((above) + __builtin_popcount(_mm512_cmp_pd_mask((__m512d)(v), (__m512d)(bound), _CMP_GT_OQ)))
#define FE_COUNTED(above, COUNT) (above)
#else
typedef fe_wide_ints fe_above_floats;
typedef fe_longs fe_above_doubles;
#define FE_COUNT_FLOAT(above, v, bound) ((above) - ((v) > (bound)))
#define FE_COUNT_DOUBLE FE_COUNT_FLOAT
#define FE_COUNTED(above, COUNT)                                                                   \
    ({                                                                                             \
        int64_t count_ = 0;                                                                        \
        for (int k_ = 0; k_ < COUNT; k_++) count_ += (above)[k_];                                  \
        count_;                                                                                    \
    })
#endif

/* How many of n numbers are below m, above it or equal to it. */
#if FE_WIDTH == 8
#define FE_TALLY(NAME, OP, ORDER)                                                                  \
    static inline int fe_##NAME##_float(const float *x, ptrdiff_t n, float m) {                    \
        int some = 0;                                                                              \
        for (ptrdiff_t k = 0; k < n; k += 16) {                                                    \
            __mmask16 in = n - k < 16 ? (1u << (n - k)) - 1 : 0xffff;                              \
            some += __builtin_popcount(_mm512_mask_cmp_ps_mask(                                    \
                in, _mm512_maskz_loadu_ps(in, x + k), _mm512_set1_ps(m), ORDER));                  \
        }                                                                                          \
        return some;                                                                               \
    }                                                                                              \
    static inline int fe_##NAME##_double(const double *x, ptrdiff_t n, double m) {                 \
        int some = 0;                                                                              \
        for (ptrdiff_t k = 0; k < n; k += 8) {                                                     \
            __mmask8 in = n - k < 8 ? (1u << (n - k)) - 1 : 0xff;                                  \
            some += __builtin_popcount(_mm512_mask_cmp_pd_mask(                                    \
                in, _mm512_maskz_loadu_pd(in, x + k), _mm512_set1_pd(m), ORDER));                  \
        }                                                                                          \
        return some;                                                                               \
    }
#else
#define FE_TALLY(NAME, OP, ORDER)                                                                  \
    static inline int fe_##NAME##_float(const float *x, ptrdiff_t n, float m) {                    \
        int32_t some = 0;                                                                          \
        for (ptrdiff_t k = 0; k < n; k++) some += x[k] OP m;                                       \
        return some;                                                                               \
    }                                                                                              \
    static inline int fe_##NAME##_double(const double *x, ptrdiff_t n, double m) {                 \
        int64_t some = 0;                                                                          \
        for (ptrdiff_t k = 0; k < n; k++) some += x[k] OP m;                                       \
        return (int)some;                                                                          \
    }
#endif
FE_TALLY(below, <, _CMP_LT_OQ)
FE_TALLY(above, >, _CMP_GT_OQ)
FE_TALLY(equal, ==, _CMP_EQ_OQ)

/* Bounds of what may be added: a pointer in the middle shuts out what lies before it, one further on
   what lies behind. */
#define FE_8(a) a, a, a, a, a, a, a, a
#define FE_128(a) FE_8(a), FE_8(a), FE_8(a), FE_8(a), FE_8(a), FE_8(a), FE_8(a), FE_8(a), \
                  FE_8(a), FE_8(a), FE_8(a), FE_8(a), FE_8(a), FE_8(a), FE_8(a), FE_8(a)
static const float fe_fence_float[] = {FE_128(-INFINITY), FE_128(INFINITY), FE_128(-INFINITY)};
static const double fe_fence_double[] = {FE_128(-INFINITY), FE_128(INFINITY), FE_128(-INFINITY)};

/* fe_lane_top: the largest of n >= 1 elements, NaN if there is one, and where the first stretch of
   128 begins that holds it. Vectors under four names, because an array of them stays in memory at
   AVX2 (half of the time of a whole row); lanes folded by turning them (one at a time they cost as
   much as 60 vectors). The last vector overlaps the one before.
   fe_lane_rank: in the same pass the rank of a label, how many elements are above its number `own`
   and how many equal ones stand before it; x may be a part of a row, and the label lie before or
   behind it. */
enum { FE_STRETCH = 128 };
#define FE_TOP(NAME, REAL, VECTOR, INTS, INT, INDEX, COUNT, LARGER, SOUND, SANE, SANE_FOUR, BITS,  \
               EQUAL, ABOVE, ADD, NEXT)                                                            \
    FE_INLINE REAL fe_scan_##NAME(const REAL *x, ptrdiff_t n, ptrdiff_t *where, int ranked,        \
                                  REAL own, ptrdiff_t label, double *rank) {                       \
        VECTOR top = (VECTOR){0} - (REAL)INFINITY, best, a, b, c, d;                               \
        INTS held = {0}, turned, rises;                                                            \
        ABOVE above = {0};                                                                         \
        REAL lower = ranked ? NEXT(own, -(REAL)INFINITY) : 0;                                      \
        SOUND sane = ~(SOUND){0};                                                                  \
        ptrdiff_t start = 0;                                                                       \
        for (; start + FE_STRETCH <= n; start += FE_STRETCH) {                                     \
            VECTOR bound = (VECTOR){0} + (start + FE_STRETCH <= label ? lower : own);              \
            best = (VECTOR){0} - (REAL)INFINITY;                                                   \
            _Pragma("GCC unroll 16") for (int k = 0; k < FE_STRETCH; k += 4 * COUNT) {             \
                memcpy(&a, x + start + k, sizeof a);                                               \
                memcpy(&b, x + start + k + COUNT, sizeof b);                                       \
                memcpy(&c, x + start + k + 2 * COUNT, sizeof c);                                   \
                memcpy(&d, x + start + k + 3 * COUNT, sizeof d);                                   \
                FE_KEEP(a);                                                                        \
                FE_KEEP(b);                                                                        \
                FE_KEEP(c);                                                                        \
                FE_KEEP(d);                                                                        \
                sane = SANE_FOUR(sane, a, b, c, d);                                                \
                if (ranked) {                                                                      \
                    above = ADD(above, a, bound);                                                  \
                    above = ADD(above, b, bound);                                                  \
                    above = ADD(above, c, bound);                                                  \
                    above = ADD(above, d, bound);                                                  \
                }                                                                                  \
                a = LARGER(a, b);                                                                  \
                c = LARGER(c, d);                                                                  \
                a = LARGER(a, c);                                                                  \
                best = LARGER(a, best);                                                            \
            }                                                                                      \
            rises = best > top;                                                                    \
            held = (held & ~rises) | ((INT)start & rises);                                         \
            top = LARGER(best, top);                                                               \
        }                                                                                          \
        best = (VECTOR){0} - (REAL)INFINITY;                                                       \
        for (ptrdiff_t k = start; k < n; k += COUNT) {                                             \
            if (n < COUNT) {                                                                       \
                for (; k < n; k++) best[k] = x[k];                                                 \
                a = best;                                                                          \
            } else {                                                                               \
                memcpy(&a, x + (k + COUNT <= n ? k : n - COUNT), sizeof a);                        \
            }                                                                                      \
            sane = SANE(sane, a, a);                                                               \
            best = LARGER(a, best);                                                                \
        }                                                                                          \
        if (ranked) {                                                                              \
            ptrdiff_t from = label < start ? label / FE_STRETCH * FE_STRETCH : start;              \
            int ties = fe_equal_##NAME(x + from, (label < n ? label : n) - from, own);             \
            *rank = FE_COUNTED(above, COUNT) + fe_above_##NAME(x + start, n - start, own) + ties;  \
        }                                                                                          \
        a = top;                                                                                   \
        top = LARGER(best, top);                                                                   \
        for (int by = COUNT / 2; by; by /= 2) {                                                    \
            memcpy(&turned, INDEX, sizeof turned);                                                 \
            b = FE_TURN(top, (turned + (INT)by) & (INT)(COUNT - 1), VECTOR, COUNT);                \
            top = LARGER(b, top);                                                                  \
        }                                                                                          \
        *where = start;                                                                            \
        if (BITS((SOUND)~sane)) return (REAL)NAN;                                                  \
        if (start) { /* the first one that any lane saw it in */                                   \
            INT seen[COUNT];                                                                       \
            unsigned lanes = EQUAL(a, top);                                                        \
            memcpy(seen, &held, sizeof held);                                                      \
            for (; lanes; lanes &= lanes - 1) {                                                    \
                INT at = seen[__builtin_ctz(lanes)];                                               \
                *where = at < *where ? at : *where;                                                \
            }                                                                                      \
        }                                                                                          \
        return top[0];                                                                             \
    }                                                                                              \
    static inline REAL fe_lane_top_##NAME(const REAL *x, ptrdiff_t n, ptrdiff_t *where) {          \
        return fe_scan_##NAME(x, n, where, 0, 0, 0, NULL);                                         \
    }                                                                                              \
    static inline REAL fe_lane_rank_##NAME(const REAL *x, ptrdiff_t n, ptrdiff_t *where, REAL own, \
                                           ptrdiff_t label, double *rank) {                        \
        return fe_scan_##NAME(x, n, where, 1, own, label, rank);                                   \
    }                                                                                              \
    static inline REAL fe_lane_max_##NAME(const REAL *x, ptrdiff_t n) {                            \
        ptrdiff_t unused;                                                                          \
        return fe_lane_top_##NAME(x, n, &unused);                                                  \
    }
FE_TOP(float, float, fe_wide_floats, fe_wide_ints, int32_t, fe_index32, (FE_WIDTH * 2),
       FE_LARGER_FLOAT, fe_sane_floats, FE_SANE_FLOAT, FE_SANE_FOUR_FLOAT, FE_BITS_FLOAT,
       FE_EQUAL_FLOAT, fe_above_floats, FE_COUNT_FLOAT, nextafterf)
FE_TOP(double, double, fe_doubles, fe_longs, int64_t, fe_index64, FE_WIDTH,
       FE_LARGER_DOUBLE, fe_sane_doubles, FE_SANE_DOUBLE, FE_SANE_FOUR_DOUBLE, FE_BITS_DOUBLE,
       FE_EQUAL_DOUBLE, fe_above_doubles, FE_COUNT_DOUBLE, nextafter)

/* Whether a row holds a NaN: apart, because the kernels of few classes learn from their counts that
   there is none. */
static inline int fe_lane_nan_float(const float *x, ptrdiff_t n) {
    float top = fe_lane_max_float(x, n);
    return top != top;
}
static inline int fe_lane_nan_double(const double *x, ptrdiff_t n) {
    double top = fe_lane_max_double(x, n);
    return top != top;
}

#endif
