/* Largest elements of rows, NaN among them, and copies of what of a row must not be added up as it is.

   Written with the vector extension of GCC and clang, as the sums are: a plain loop over an array of
   maxima stays scalar in GCC 12 (0.6 ns an element instead of 0.05). Reads nothing outside x. */
#ifndef FASTENT_TOPS_H
#define FASTENT_TOPS_H

#include "lane_sums.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

/* Both kinds of numbers are written once: REAL is float or double, KIND what intrinsics call it. */
typedef fe_wide_floats fe_vector_float;
typedef fe_doubles fe_vector_double;
typedef fe_wide_ints fe_ints_float;
typedef fe_longs fe_ints_double;
typedef int32_t fe_int_float;
typedef int64_t fe_int_double;
#define FE_COUNT(REAL) ((int)(sizeof(fe_vector_##REAL) / sizeof(REAL)))

#if FE_WIDTH == 8
#define FE_MM(NAME, KIND) _mm512_##NAME##_##KIND
#define FE_IN_ps __m512
#define FE_IN_pd __m512d
#elif FE_WIDTH == 4
#define FE_MM(NAME, KIND) _mm256_##NAME##_##KIND
#define FE_IN_ps __m256
#define FE_IN_pd __m256d
#elif defined(__SSE2__)
#define FE_MM(NAME, KIND) _mm_##NAME##_##KIND
#define FE_IN_ps __m128
#define FE_IN_pd __m128d
#endif

/* v where it is larger, else best: one instruction, which GCC 12 does not make of a comparison and
   a selection of vectors */
#if defined(FE_MM)
#define FE_LARGER(REAL, KIND, v, best)                                                             \
    ((fe_vector_##REAL)FE_MM(max, KIND)((FE_IN_##KIND)(v), (FE_IN_##KIND)(best)))
#else
#define FE_LARGER(REAL, KIND, v, best)                                                             \
    ((fe_vector_##REAL)(((fe_ints_##REAL)(v) & ((v) > (best)))                                     \
                        | ((fe_ints_##REAL)(best) & ~((v) > (best)))))
#endif

/* a[order[0]], a[order[1]], ... */
#if defined(__clang__)
#define FE_TURN(REAL, a, order)                                                                    \
    ({                                                                                             \
        fe_vector_##REAL turned_;                                                                  \
        for (int k_ = 0; k_ < FE_COUNT(REAL); k_++) turned_[k_] = (a)[(order)[k_]];                \
        turned_;                                                                                   \
    })
#else
#define FE_TURN(REAL, a, order) __builtin_shuffle(a, order)
#endif

/* Masks of lanes. FE_SANE: those without NaN so far, less those that are NaN in one of two or four vectors;
   FE_WITHIN: less those above a bound; FE_BETWEEN: less those outside of two; FE_BITS: lanes as bits; FE_ABOVE:
   lanes above a bound, counted by the integer units, as a masked addition costs the vector units as much as the
   comparison. At the highest level a comparison takes the mask of another in: joining all masks cost 2 % of a
   long row. */
#if FE_WIDTH == 8
typedef __mmask16 fe_mask_float;
typedef __mmask8 fe_mask_double;
typedef int64_t fe_count_float, fe_count_double;
#define FE_AND_ps _kand_mask16
#define FE_AND_pd _kand_mask8
#define FE_CMP(KIND, a, b, ORDER)                                                                  \
    FE_MM(cmp, KIND##_mask)((FE_IN_##KIND)(a), (FE_IN_##KIND)(b), ORDER)
#define FE_CMP_IN(KIND, in, a, b, ORDER)                                                           \
    FE_MM(mask_cmp, KIND##_mask)(in, (FE_IN_##KIND)(a), (FE_IN_##KIND)(b), ORDER)
#define FE_SANE(KIND, sane, a, b) FE_AND_##KIND(sane, FE_CMP(KIND, a, b, _CMP_ORD_Q))
#define FE_SANE_FOUR(KIND, sane, a, b, c, d)                                                       \
    FE_AND_##KIND(sane, FE_CMP_IN(KIND, FE_CMP(KIND, a, b, _CMP_ORD_Q), c, d, _CMP_ORD_Q))
#define FE_WITHIN(KIND, in, v, bound) FE_CMP_IN(KIND, in, v, bound, _CMP_LE_OQ)
#define FE_BETWEEN(KIND, in, v, low, high)                                                         \
    FE_CMP_IN(KIND, FE_CMP_IN(KIND, in, v, low, _CMP_GT_OQ), v, high, _CMP_LT_OQ)
#define FE_BITS(KIND, lanes) (lanes)
#define FE_EQUAL(KIND, a, b) FE_CMP(KIND, a, b, _CMP_EQ_OQ)
#define FE_ABOVE(KIND, above, v, bound)                                                            \
    ((above) + __builtin_popcount(FE_CMP(KIND, v, bound, _CMP_GT_OQ)))
#define FE_COUNTED(above, COUNT) (above)
#else
typedef fe_ints_float fe_mask_float, fe_count_float;
typedef fe_ints_double fe_mask_double, fe_count_double;
#if FE_WIDTH == 4
#define FE_ORDERED(KIND, a, b) FE_MM(cmp, KIND)((FE_IN_##KIND)(a), (FE_IN_##KIND)(b), _CMP_ORD_Q)
#elif defined(__SSE2__)
#define FE_ORDERED(KIND, a, b) FE_MM(cmpord, KIND)((FE_IN_##KIND)(a), (FE_IN_##KIND)(b))
#endif
#if defined(FE_MM)
#define FE_SANE(KIND, sane, a, b) ((sane) & (__typeof__(sane))FE_ORDERED(KIND, a, b))
#define FE_BITS(KIND, lanes) ((unsigned)FE_MM(movemask, KIND)((FE_IN_##KIND)(lanes)))
#else
#define FE_SANE(KIND, sane, a, b) ((sane) & ((a) == (a)) & ((b) == (b)))
#define FE_BITS(KIND, lanes)                                                                       \
    ({                                                                                             \
        unsigned bits_ = 0;                                                                        \
        for (unsigned k_ = 0; k_ < sizeof(lanes) / sizeof((lanes)[0]); k_++)                       \
            bits_ |= (unsigned)((lanes)[k_] != 0) << k_;                                           \
        bits_;                                                                                     \
    })
#endif
#define FE_SANE_FOUR(KIND, sane, a, b, c, d) FE_SANE(KIND, FE_SANE(KIND, sane, a, b), c, d)
#define FE_WITHIN(KIND, in, v, bound) ((in) & ((v) <= (bound)))
#define FE_BETWEEN(KIND, in, v, low, high) ((in) & ((v) > (low)) & ((v) < (high)))
#define FE_EQUAL(KIND, a, b) FE_BITS(KIND, (a) == (b))
#define FE_ABOVE(KIND, above, v, bound) ((above) - ((v) > (bound)))
#define FE_COUNTED(above, COUNT)                                                                   \
    ({                                                                                             \
        int64_t count_ = 0;                                                                        \
        for (int k_ = 0; k_ < COUNT; k_++) count_ += (above)[k_];                                  \
        count_;                                                                                    \
    })
#endif

/* A loaded vector that GCC shall not load a second time instead of keeping it. */
#if FE_WIDTH > 2
#define FE_KEEP(v) __asm__("" : "+v"(v))
#else
#define FE_KEEP(v)
#endif

/* How many of n numbers are below m, above it or equal to it. */
#if FE_WIDTH == 8
#define FE_TALLY(NAME, REAL, KIND, OP, ORDER)                                                      \
    static inline int fe_##NAME##_##REAL(const REAL *x, ptrdiff_t n, REAL m) {                     \
        int some = 0;                                                                              \
        for (ptrdiff_t k = 0; k < n; k += FE_COUNT(REAL)) {                                        \
            fe_mask_##REAL in = n - k < FE_COUNT(REAL) ? (1u << (n - k)) - 1 : ~0u;                 \
            some += __builtin_popcount(FE_CMP_IN(KIND, in, FE_MM(maskz_loadu, KIND)(in, x + k),    \
                                                 FE_MM(set1, KIND)(m), ORDER));                    \
        }                                                                                          \
        return some;                                                                               \
    }
#else
#define FE_TALLY(NAME, REAL, KIND, OP, ORDER)                                                      \
    static inline int fe_##NAME##_##REAL(const REAL *x, ptrdiff_t n, REAL m) {                     \
        fe_int_##REAL some = 0;                                                                    \
        for (ptrdiff_t k = 0; k < n; k++) some += x[k] OP m;                                       \
        return (int)some;                                                                          \
    }
#endif
FE_TALLY(below, float, ps, <, _CMP_LT_OQ)
FE_TALLY(below, double, pd, <, _CMP_LT_OQ)
FE_TALLY(above, float, ps, >, _CMP_GT_OQ)
FE_TALLY(above, double, pd, >, _CMP_GT_OQ)
FE_TALLY(equal, float, ps, ==, _CMP_EQ_OQ)
FE_TALLY(equal, double, pd, ==, _CMP_EQ_OQ)
#define fe_below(x, ...) FE_OF(fe_below, *(x))(x, __VA_ARGS__)
#define fe_equal(x, ...) FE_OF(fe_equal, *(x))(x, __VA_ARGS__)

/* Bounds of what may be added: a pointer in the middle shuts out what lies before it, one further on
   what lies behind. */
#define FE_FENCE {[0 ... 127] = -INFINITY, [128 ... 255] = INFINITY, [256 ... 383] = -INFINITY}
static const float fe_fence_float[] = FE_FENCE;
static const double fe_fence_double[] = FE_FENCE;
#define fe_fence(x) (FE_OF(fe_fence, *(x)) + FE_STRETCH)

/* The largest lane, in all of them; and of the lanes of `best` that are `top` the least number in `held`, or `most` if
   that is less. */
#define FE_FOLD_TOP(REAL, KIND)                                                                    \
    FE_INLINE fe_vector_##REAL fe_top_of_##REAL(fe_vector_##REAL top) {                            \
        fe_vector_##REAL other;                                                                    \
        fe_ints_##REAL turned;                                                                     \
        for (int by = FE_COUNT(REAL) / 2; by; by /= 2) {                                           \
            memcpy(&turned, fe_index_##REAL, sizeof turned);                                       \
            other = FE_TURN(REAL, top, (turned + (fe_int_##REAL)by) & (fe_int_##REAL)(FE_COUNT(REAL) - 1)); \
            top = FE_LARGER(REAL, KIND, other, top);                                               \
        }                                                                                          \
        return top;                                                                                \
    }                                                                                              \
    FE_INLINE ptrdiff_t fe_first_of_##REAL(fe_vector_##REAL best, fe_vector_##REAL top, fe_ints_##REAL held, \
                                           ptrdiff_t most) {                                       \
        fe_int_##REAL seen[FE_COUNT(REAL)];                                                        \
        memcpy(seen, &held, sizeof held);                                                          \
        for (unsigned lanes = FE_EQUAL(KIND, best, top); lanes; lanes &= lanes - 1) {              \
            fe_int_##REAL at = seen[__builtin_ctz(lanes)];                                         \
            most = at < most ? at : most;                                                          \
        }                                                                                          \
        return most;                                                                               \
    }
FE_FOLD_TOP(float, ps)
FE_FOLD_TOP(double, pd)

/* fe_lane_top: the largest of n >= 1 elements, NaN if there is one, and where the first stretch of 128 begins that
   holds it. Vectors under four names, because an array of them stays in memory at AVX2 (half of the time of a
   whole row); lanes folded by turning them (one at a time they cost as much as 60 vectors). The last vector
   overlaps the one before. fe_lane_rank: in the same pass the rank of a label, how many elements are above its
   number `own` and how many equal ones stand before it; x may be a part of a row, and the label lie before or
   behind it. */
enum { FE_STRETCH = 128 };
#define FE_TOP(REAL, KIND, NEXT)                                                                   \
    FE_INLINE REAL fe_scan_##REAL(const REAL *x, ptrdiff_t n, ptrdiff_t *where, int ranked,        \
                                  REAL own, ptrdiff_t label, double *rank) {                       \
        fe_vector_##REAL top = (fe_vector_##REAL){0} - (REAL)INFINITY, best, a, b, c, d;           \
        fe_ints_##REAL held = {0}, rises;                                                          \
        fe_count_##REAL above = {0};                                                               \
        REAL lower = ranked ? NEXT(own, -(REAL)INFINITY) : 0;                                      \
        fe_mask_##REAL sane = ~(fe_mask_##REAL){0};                                                \
        ptrdiff_t start = 0;                                                                       \
        for (; start + FE_STRETCH <= n; start += FE_STRETCH) {                                     \
            fe_vector_##REAL bound = (fe_vector_##REAL){0} + (start + FE_STRETCH <= label ? lower : own); \
            best = (fe_vector_##REAL){0} - (REAL)INFINITY;                                         \
            _Pragma("GCC unroll 16") for (int k = 0; k < FE_STRETCH; k += 4 * FE_COUNT(REAL)) {    \
                memcpy(&a, x + start + k, sizeof a);                                               \
                memcpy(&b, x + start + k + FE_COUNT(REAL), sizeof b);                              \
                memcpy(&c, x + start + k + 2 * FE_COUNT(REAL), sizeof c);                          \
                memcpy(&d, x + start + k + 3 * FE_COUNT(REAL), sizeof d);                          \
                FE_KEEP(a);                                                                        \
                FE_KEEP(b);                                                                        \
                FE_KEEP(c);                                                                        \
                FE_KEEP(d);                                                                        \
                sane = FE_SANE_FOUR(KIND, sane, a, b, c, d);                                       \
                if (ranked) {                                                                      \
                    above = FE_ABOVE(KIND, above, a, bound);                                       \
                    above = FE_ABOVE(KIND, above, b, bound);                                       \
                    above = FE_ABOVE(KIND, above, c, bound);                                       \
                    above = FE_ABOVE(KIND, above, d, bound);                                       \
                }                                                                                  \
                a = FE_LARGER(REAL, KIND, a, b);                                                   \
                c = FE_LARGER(REAL, KIND, c, d);                                                   \
                a = FE_LARGER(REAL, KIND, a, c);                                                   \
                best = FE_LARGER(REAL, KIND, a, best);                                             \
            }                                                                                      \
            rises = best > top;                                                                    \
            held = (held & ~rises) | ((fe_int_##REAL)start & rises);                               \
            top = FE_LARGER(REAL, KIND, best, top);                                                \
        }                                                                                          \
        best = (fe_vector_##REAL){0} - (REAL)INFINITY;                                             \
        for (ptrdiff_t k = start; k < n; k += FE_COUNT(REAL)) {                                    \
            if (n < FE_COUNT(REAL)) {                                                              \
                for (; k < n; k++) best[k] = x[k];                                                 \
                a = best;                                                                          \
            } else {                                                                               \
                memcpy(&a, x + (k + FE_COUNT(REAL) <= n ? k : n - FE_COUNT(REAL)), sizeof a);      \
            }                                                                                      \
            sane = FE_SANE(KIND, sane, a, a);                                                      \
            best = FE_LARGER(REAL, KIND, a, best);                                                 \
        }                                                                                          \
        if (ranked) {                                                                              \
            ptrdiff_t from = label < start ? label / FE_STRETCH * FE_STRETCH : start;              \
            int ties = fe_equal_##REAL(x + from, (label < n ? label : n) - from, own);             \
            *rank = FE_COUNTED(above, FE_COUNT(REAL)) + fe_above_##REAL(x + start, n - start, own) + ties; \
        }                                                                                          \
        a = top;                                                                                   \
        top = fe_top_of_##REAL(FE_LARGER(REAL, KIND, best, top));                                  \
        if (FE_BITS(KIND, (fe_mask_##REAL)~sane)) {                                                \
            *where = start;                                                                        \
            return (REAL)NAN;                                                                      \
        }                                                                                          \
        /* the first one that any lane saw it in */                                                \
        *where = start ? fe_first_of_##REAL(a, top, held, start) : 0;                              \
        return top[0];                                                                             \
    }                                                                                              \
    static inline REAL fe_lane_top_##REAL(const REAL *x, ptrdiff_t n, ptrdiff_t *where) {          \
        return fe_scan_##REAL(x, n, where, 0, 0, 0, NULL);                                         \
    }                                                                                              \
    static inline REAL fe_lane_rank_##REAL(const REAL *x, ptrdiff_t n, ptrdiff_t *where, REAL own, \
                                           ptrdiff_t label, double *rank) {                        \
        return fe_scan_##REAL(x, n, where, 1, own, label, rank);                                   \
    }                                                                                              \
    static inline REAL fe_lane_max_##REAL(const REAL *x, ptrdiff_t n) {                            \
        ptrdiff_t unused;                                                                          \
        return fe_lane_top_##REAL(x, n, &unused);                                                  \
    }
FE_TOP(float, ps, nextafterf)
FE_TOP(double, pd, nextafter)
#define fe_lane_top(x, ...) FE_OF(fe_lane_top, *(x))(x, __VA_ARGS__)
#define fe_lane_rank(x, ...) FE_OF(fe_lane_rank, *(x))(x, __VA_ARGS__)
#define fe_lane_max(x, n) FE_OF(fe_lane_max, *(x))(x, n)

/* Whether a row holds a NaN: apart, because the kernels of few classes learn from their counts that
   there is none. */
#define fe_lane_nan(x, n) isnan(fe_lane_max(x, n))

/* fe_some_above: whether one of n numbers is above the bound or NaN. Lanes that are not are kept as the masks of
   argmax.h are, four at a time, as each waits for itself; the last numbers, fewer than a vector, one by one. */
#define FE_SOME_ABOVE(REAL, KIND)                                                                  \
    static inline int fe_some_above_##REAL(const REAL *x, ptrdiff_t n, REAL bound) {               \
        fe_vector_##REAL v, w, y, z, limit = (fe_vector_##REAL){0} + bound;                        \
        fe_mask_##REAL fine = ~(fe_mask_##REAL){0}, more = fine, most = fine, last = fine, over;   \
        ptrdiff_t k = 0;                                                                           \
        int some = 0;                                                                              \
        for (; k + 4 * FE_COUNT(REAL) <= n; k += 4 * FE_COUNT(REAL)) {                             \
            memcpy(&v, x + k, sizeof v);                                                           \
            memcpy(&w, x + k + FE_COUNT(REAL), sizeof v);                                          \
            memcpy(&y, x + k + 2 * FE_COUNT(REAL), sizeof v);                                      \
            memcpy(&z, x + k + 3 * FE_COUNT(REAL), sizeof v);                                      \
            fine = FE_WITHIN(KIND, fine, v, limit);                                                \
            more = FE_WITHIN(KIND, more, w, limit);                                                \
            most = FE_WITHIN(KIND, most, y, limit);                                                \
            last = FE_WITHIN(KIND, last, z, limit);                                                \
        }                                                                                          \
        fine &= more & most & last;                                                                \
        for (; k + FE_COUNT(REAL) <= n; k += FE_COUNT(REAL)) {                                     \
            memcpy(&v, x + k, sizeof v);                                                           \
            fine = FE_WITHIN(KIND, fine, v, limit);                                                \
        }                                                                                          \
        for (; k < n; k++) some |= !(x[k] <= bound);                                               \
        over = ~fine;                                                                              \
        return some | (FE_BITS(KIND, over) != 0);                                                  \
    }
FE_SOME_ABOVE(float, ps)
FE_SOME_ABOVE(double, pd)
#define fe_some_above(x, ...) FE_OF(fe_some_above, *(x))(x, __VA_ARGS__)

#endif
