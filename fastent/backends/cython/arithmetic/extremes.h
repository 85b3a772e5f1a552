/* What of a row may belong to its smallest or largest numbers.

   fe_ends: those at most `low` or at least `high`, written one after another to `out`, which has room for
   n + 16 and may be x; returns how many. NaN is neither. fe_within: those in [low, high], which are few. fe_over:
   how many of at most 2^30 are above m; fe_above, but for many. */
#ifndef FASTENT_EXTREMES_H
#define FASTENT_EXTREMES_H

#include "argmax.h"

#if FE_WIDTH == 8
/* fe_kept: of a vector the ends, or what is `within`, a constant. No branch for ends: which have some is noise. */
#define FE_SOME(REAL, KIND)                                                                        \
    FE_INLINE ptrdiff_t fe_kept_##REAL(FE_IN_##KIND v, fe_mask_##REAL in, FE_IN_##KIND least, FE_IN_##KIND most, \
                                       int within, REAL *out) {                                    \
        in = within ? FE_CMP_IN(KIND, FE_CMP_IN(KIND, in, v, least, _CMP_GE_OQ), v, most, _CMP_LE_OQ) \
                    : FE_CMP_IN(KIND, in, v, least, _CMP_LE_OQ) | FE_CMP_IN(KIND, in, v, most, _CMP_GE_OQ); \
        if (within && !in) return 0;                                                               \
        FE_MM(storeu, KIND)(out, FE_MM(maskz_compress, KIND)(in, v));                              \
        return __builtin_popcount(in);                                                             \
    }                                                                                              \
    FE_INLINE ptrdiff_t fe_some_##REAL(const REAL *x, ptrdiff_t n, REAL low, REAL high, int within, REAL *out) { \
        ptrdiff_t found = 0, k = 0;                                                                \
        const FE_IN_##KIND least = FE_MM(set1, KIND)(low), most = FE_MM(set1, KIND)(high);         \
        const fe_mask_##REAL all = ~0, last = (fe_mask_##REAL)((1u << n % FE_COUNT(REAL)) - 1);    \
        for (; k + FE_COUNT(REAL) <= n; k += FE_COUNT(REAL))                                       \
            found += fe_kept_##REAL(FE_MM(loadu, KIND)(x + k), all, least, most, within, out + found); \
        if (k < n)                                                                                 \
            found += fe_kept_##REAL(FE_MM(maskz_loadu, KIND)(last, x + k), last, least, most, within, out + found); \
        return found;                                                                              \
    }                                                                                              \
    static inline ptrdiff_t fe_over_##REAL(const REAL *x, ptrdiff_t n, REAL m) {                   \
        __m512i even = _mm512_setzero_si512(), odd = even;                                         \
        const __m512i one = FE_INTS_##KIND(set1)(1);                                               \
        const FE_IN_##KIND bound = FE_MM(set1, KIND)(m);                                           \
        ptrdiff_t k = 0, some;                                                                     \
        for (; k + 2 * FE_COUNT(REAL) <= n; k += 2 * FE_COUNT(REAL)) {                             \
            fe_mask_##REAL a = FE_CMP(KIND, FE_MM(loadu, KIND)(x + k), bound, _CMP_GT_OQ);         \
            fe_mask_##REAL b = FE_CMP(KIND, FE_MM(loadu, KIND)(x + k + FE_COUNT(REAL)), bound, _CMP_GT_OQ); \
            even = FE_INTS_##KIND(mask_add)(even, a, even, one);                                   \
            odd = FE_INTS_##KIND(mask_add)(odd, b, odd, one);                                      \
        }                                                                                          \
        some = k ? FE_INTS_##KIND(reduce_add)(FE_INTS_##KIND(add)(even, odd)) : 0;                 \
        return some + fe_above_##REAL(x + k, n - k, m);                                            \
    }
#define FE_INTS_ps(NAME) _mm512_##NAME##_epi32
#define FE_INTS_pd(NAME) _mm512_##NAME##_epi64
#else
/* Most stretches have none: they are passed over with a loop that is a few vectors. */
#define FE_IS_IN(v) (within ? ((v) >= low) & ((v) <= high) : ((v) <= low) | ((v) >= high))
#define FE_SOME(REAL, KIND)                                                                        \
    FE_INLINE ptrdiff_t fe_some_##REAL(const REAL *x, ptrdiff_t n, REAL low, REAL high, int within, REAL *out) { \
        ptrdiff_t found = 0, stop;                                                                 \
        for (ptrdiff_t k = 0; k < n; k = stop) {                                                   \
            int some = n - k < 16;                                                                 \
            stop = some ? n : k + 16;                                                              \
            if (!some)                                                                             \
                for (int j = 0; j < 16; j++) some |= FE_IS_IN(x[k + j]);                           \
            if (some)                                                                              \
                for (ptrdiff_t j = k; j < stop; j++) {                                             \
                    out[found] = x[j];                                                             \
                    found += FE_IS_IN(x[j]);                                                       \
                }                                                                                  \
        }                                                                                          \
        return found;                                                                              \
    }                                                                                              \
    static inline ptrdiff_t fe_over_##REAL(const REAL *x, ptrdiff_t n, REAL m) {                   \
        return fe_above_##REAL(x, n, m);                                                           \
    }
#endif
FE_SOME(float, ps)
FE_SOME(double, pd)
#define fe_ends(x, n, low, high, out) FE_OF(fe_some, *(x))(x, n, low, high, 0, out)
#define fe_within(x, n, low, high, out) FE_OF(fe_some, *(x))(x, n, low, high, 1, out)
#define fe_over(x, ...) FE_OF(fe_over, *(x))(x, __VA_ARGS__)

/* A row as stretches of 128 numbers, each where it lies or a copy. fe_scan_stretches: the largest of at
   most 16 of them, NaN if there is one; in `where` the first that holds it; in `held` a bit for each
   sixteen numbers, whether fe_ends has some of them. fe_ends_held: these. */
#define FE_SCAN(REAL, KIND)                                                                        \
    static inline REAL fe_scan_stretches_##REAL(const REAL *const *at, ptrdiff_t count, REAL low,  \
                                                REAL high, ptrdiff_t *where, uint64_t *held) {     \
        fe_vector_##REAL top = (fe_vector_##REAL){0} - (REAL)INFINITY, least = (fe_vector_##REAL){0} + low, \
               most = (fe_vector_##REAL){0} + high, best, a, b;                                    \
        fe_ints_##REAL first = {0}, rises;                                                         \
        fe_mask_##REAL sane = ~(fe_mask_##REAL){0}, in_a, in_b;                                    \
        held[0] = held[1] = 0;                                                                     \
        for (ptrdiff_t s = 0; s < count; s++) {                                                    \
            const REAL *x = at[s];                                                                 \
            uint64_t some = 0;                                                                     \
            best = (fe_vector_##REAL){0} - (REAL)INFINITY;                                         \
            _Pragma("GCC unroll 4") for (int k = 0; k < FE_STRETCH; k += 32) {                     \
                in_a = in_b = ~(fe_mask_##REAL){0};                                                \
                _Pragma("GCC unroll 8") for (int j = 0; j < 16; j += FE_COUNT(REAL)) {             \
                    memcpy(&a, x + k + j, sizeof a);                                               \
                    memcpy(&b, x + k + j + 16, sizeof b);                                          \
                    FE_KEEP(a);                                                                    \
                    FE_KEEP(b);                                                                    \
                    sane = FE_SANE(KIND, sane, a, b);                                              \
                    in_a = FE_BETWEEN(KIND, in_a, a, least, most);                                 \
                    in_b = FE_BETWEEN(KIND, in_b, b, least, most);                                 \
                    a = FE_LARGER(REAL, KIND, a, b);                                               \
                    best = FE_LARGER(REAL, KIND, a, best);                                         \
                }                                                                                  \
                in_a = ~in_a;                                                                      \
                in_b = ~in_b;                                                                      \
                some |= (uint64_t)(FE_BITS(KIND, in_a) != 0) << (k / 16);                          \
                some |= (uint64_t)(FE_BITS(KIND, in_b) != 0) << (k / 16 + 1);                      \
            }                                                                                      \
            held[s / 8] |= some << (s % 8 * 8);                                                    \
            rises = best > top;                                                                    \
            first = (first & ~rises) | ((fe_int_##REAL)s & rises);                                 \
            top = FE_LARGER(REAL, KIND, best, top);                                                \
        }                                                                                          \
        a = top;                                                                                   \
        top = fe_top_of_##REAL(a);                                                                 \
        *where = fe_first_of_##REAL(a, top, first, count);                                         \
        sane = ~sane;                                                                              \
        return FE_BITS(KIND, sane) ? (REAL)NAN : top[0];                                           \
    }                                                                                              \
    static inline ptrdiff_t fe_ends_held_##REAL(const REAL *const *at, const uint64_t *held,       \
                                                REAL low, REAL high, REAL *out) {                  \
        ptrdiff_t found = 0;                                                                       \
        for (int w = 0; w < 2; w++)                                                                \
            for (uint64_t some = held[w]; some; some &= some - 1) {                                \
                int k = __builtin_ctzll(some);                                                     \
                found += fe_some_##REAL(at[8 * w + k / 8] + 16 * (k % 8), 16, low, high, 0, out + found); \
            }                                                                                      \
        return found;                                                                              \
    }
FE_SCAN(float, ps)
FE_SCAN(double, pd)
#define fe_scan_stretches(at, ...) FE_OF(fe_scan_stretches, **(at))(at, __VA_ARGS__)
#define fe_ends_held(at, ...) FE_OF(fe_ends_held, **(at))(at, __VA_ARGS__)

#endif
