/* What of a row may belong to its smallest or largest numbers.

   fe_ends: those at most `low` or at least `high`, written one after another to `out`, which has room for
   n + 16 and may be x; returns how many. NaN is neither. fe_within: those in [low, high], which are few. fe_over:
   how many of at most 2^30 are above m; fe_above, but for many. */
#ifndef FASTENT_EXTREMES_H
#define FASTENT_EXTREMES_H

#include "argmax.h"

#if FE_WIDTH == 8
/* No branch: which vectors have some is noise. */
#define FE_ENDS(TYPE, LANES, VECTOR, MASK, SUFFIX)                                                 \
    FE_INLINE ptrdiff_t fe_ends_##TYPE(const TYPE *x, ptrdiff_t n, TYPE low, TYPE high,            \
                                       TYPE *out) {                                                \
        ptrdiff_t found = 0, k = 0;                                                                \
        const VECTOR least = _mm512_set1_##SUFFIX(high), most = _mm512_set1_##SUFFIX(low);         \
        for (; k + LANES <= n; k += LANES) {                                                       \
            VECTOR v = _mm512_loadu_##SUFFIX(x + k);                                               \
            unsigned in = _mm512_cmp_##SUFFIX##_mask(v, most, _CMP_LE_OQ)                          \
                          | _mm512_cmp_##SUFFIX##_mask(v, least, _CMP_GE_OQ);                      \
            _mm512_storeu_##SUFFIX(out + found, _mm512_maskz_compress_##SUFFIX((MASK)in, v));      \
            found += __builtin_popcount(in);                                                       \
        }                                                                                          \
        for (; k < n; k += LANES) {                                                                \
            MASK in = n - k < LANES ? (MASK)((1u << (n - k)) - 1) : (MASK)-1;                      \
            VECTOR v = _mm512_maskz_loadu_##SUFFIX(in, x + k);                                     \
            in = _mm512_mask_cmp_##SUFFIX##_mask(in, v, most, _CMP_LE_OQ)                          \
                 | _mm512_mask_cmp_##SUFFIX##_mask(in, v, least, _CMP_GE_OQ);                      \
            _mm512_storeu_##SUFFIX(out + found, _mm512_maskz_compress_##SUFFIX(in, v));            \
            found += __builtin_popcount(in);                                                       \
        }                                                                                          \
        return found;                                                                              \
    }
FE_ENDS(float, 16, __m512, __mmask16, ps)
FE_ENDS(double, 8, __m512d, __mmask8, pd)
#define FE_WITHIN(TYPE, LANES, VECTOR, MASK, SUFFIX, INT)                                          \
    static inline ptrdiff_t fe_within_##TYPE(const TYPE *x, ptrdiff_t n, TYPE low, TYPE high,      \
                                             TYPE *out) {                                          \
        ptrdiff_t found = 0, k = 0;                                                                \
        const VECTOR least = _mm512_set1_##SUFFIX(low), most = _mm512_set1_##SUFFIX(high);         \
        for (; k + LANES <= n; k += LANES) {                                                       \
            VECTOR v = _mm512_loadu_##SUFFIX(x + k);                                               \
            MASK in = _mm512_cmp_##SUFFIX##_mask(v, least, _CMP_GE_OQ);                            \
            in = _mm512_mask_cmp_##SUFFIX##_mask(in, v, most, _CMP_LE_OQ);                         \
            if (!in) continue;                                                                     \
            _mm512_storeu_##SUFFIX(out + found, _mm512_maskz_compress_##SUFFIX(in, v));            \
            found += __builtin_popcount(in);                                                       \
        }                                                                                          \
        if (k < n) {                                                                               \
            MASK in = (MASK)((1u << (n - k)) - 1);                                                 \
            VECTOR v = _mm512_maskz_loadu_##SUFFIX(in, x + k);                                     \
            in = _mm512_mask_cmp_##SUFFIX##_mask(in, v, least, _CMP_GE_OQ);                        \
            in = _mm512_mask_cmp_##SUFFIX##_mask(in, v, most, _CMP_LE_OQ);                         \
            _mm512_storeu_##SUFFIX(out + found, _mm512_maskz_compress_##SUFFIX(in, v));            \
            found += __builtin_popcount(in);                                                       \
        }                                                                                          \
        return found;                                                                              \
    }                                                                                              \
    static inline ptrdiff_t fe_over_##TYPE(const TYPE *x, ptrdiff_t n, TYPE m) {                   \
        __m512i even = _mm512_setzero_si512(), odd = even;                                         \
        const __m512i one = _mm512_set1_##INT(1);                                                  \
        const VECTOR bound = _mm512_set1_##SUFFIX(m);                                              \
        ptrdiff_t k = 0, some;                                                                     \
        for (; k + 2 * LANES <= n; k += 2 * LANES) {                                               \
            MASK a = _mm512_cmp_##SUFFIX##_mask(_mm512_loadu_##SUFFIX(x + k), bound, _CMP_GT_OQ);  \
            MASK b = _mm512_cmp_##SUFFIX##_mask(_mm512_loadu_##SUFFIX(x + k + LANES), bound,       \
                                                _CMP_GT_OQ);                                       \
            even = _mm512_mask_add_##INT(even, a, even, one);                                      \
            odd = _mm512_mask_add_##INT(odd, b, odd, one);                                         \
        }                                                                                          \
        some = k ? _mm512_reduce_add_##INT(_mm512_add_##INT(even, odd)) : 0;                       \
        return some + fe_above_##TYPE(x + k, n - k, m);                                            \
    }
FE_WITHIN(float, 16, __m512, __mmask16, ps, epi32)
FE_WITHIN(double, 8, __m512d, __mmask8, pd, epi64)
#else
/* Most stretches have none: they are passed over with a loop that is a few vectors. */
#define FE_ENDS(TYPE)                                                                              \
    FE_INLINE ptrdiff_t fe_ends_##TYPE(const TYPE *x, ptrdiff_t n, TYPE low, TYPE high,            \
                                       TYPE *out) {                                                \
        ptrdiff_t found = 0, k = 0;                                                                \
        while (k < n) {                                                                            \
            ptrdiff_t stop = n - k < 16 ? n : k + 16;                                              \
            int some = 0;                                                                          \
            if (stop == k + 16)                                                                    \
                for (int j = 0; j < 16; j++) some |= (x[k + j] <= low) | (x[k + j] >= high);       \
            else                                                                                   \
                some = 1;                                                                          \
            if (some)                                                                              \
                for (ptrdiff_t j = k; j < stop; j++) {                                             \
                    out[found] = x[j];                                                             \
                    found += (x[j] <= low) | (x[j] >= high);                                       \
                }                                                                                  \
            k = stop;                                                                              \
        }                                                                                          \
        return found;                                                                              \
    }
FE_ENDS(float)
FE_ENDS(double)
#define FE_WITHIN(TYPE)                                                                            \
    static inline ptrdiff_t fe_within_##TYPE(const TYPE *x, ptrdiff_t n, TYPE low, TYPE high,      \
                                             TYPE *out) {                                          \
        ptrdiff_t found = 0;                                                                       \
        for (ptrdiff_t k = 0; k < n; k++) {                                                        \
            TYPE v = x[k];                                                                         \
            out[found] = v;                                                                        \
            found += (v >= low) & (v <= high);                                                     \
        }                                                                                          \
        return found;                                                                              \
    }                                                                                              \
    static inline ptrdiff_t fe_over_##TYPE(const TYPE *x, ptrdiff_t n, TYPE m) {                   \
        return fe_above_##TYPE(x, n, m);                                                           \
    }
FE_WITHIN(float)
FE_WITHIN(double)
#endif

/* A row as stretches of 128 numbers, each where it lies or a copy. fe_scan_stretches: the largest of at
   most 16 of them, NaN if there is one; in `where` the first that holds it; in `held` a bit for each
   sixteen numbers, whether fe_ends has some of them. fe_ends_held: these. */
#if FE_WIDTH == 8
#define FE_BETWEEN_FLOAT(in, v, low, high)                                                         \
    _mm512_mask_cmp_ps_mask(_mm512_mask_cmp_ps_mask(in, (__m512)(v), (__m512)(low), _CMP_GT_OQ),   \
                            (__m512)(v), (__m512)(high), _CMP_LT_OQ)
#define FE_BETWEEN_DOUBLE(in, v, low, high)                                                        \
    _mm512_mask_cmp_pd_mask(_mm512_mask_cmp_pd_mask(in, (__m512d)(v), (__m512d)(low), _CMP_GT_OQ), \
                            (__m512d)(v), (__m512d)(high), _CMP_LT_OQ)
#else
#define FE_BETWEEN_FLOAT(in, v, low, high) ((in) & ((v) > (low)) & ((v) < (high)))
#define FE_BETWEEN_DOUBLE FE_BETWEEN_FLOAT
#endif
#define FE_SCAN(NAME, REAL, VECTOR, INTS, INT, INDEX, COUNT, LARGER, MASK, SANE, BETWEEN, BITS,    \
                EQUAL)                                                                             \
    static inline REAL fe_scan_stretches_##NAME(const REAL *const *at, ptrdiff_t count, REAL low,  \
                                                REAL high, ptrdiff_t *where, uint64_t *held) {     \
        VECTOR top = (VECTOR){0} - (REAL)INFINITY, least = (VECTOR){0} + low,                      \
               most = (VECTOR){0} + high, best, a, b;                                              \
        INTS first = {0}, turned, rises;                                                           \
        MASK sane = ~(MASK){0}, in_a, in_b;                                                        \
        INT seen[COUNT];                                                                           \
        held[0] = held[1] = 0;                                                                     \
        for (ptrdiff_t s = 0; s < count; s++) {                                                    \
            const REAL *x = at[s];                                                                 \
            uint64_t some = 0;                                                                     \
            best = (VECTOR){0} - (REAL)INFINITY;                                                   \
            _Pragma("GCC unroll 4") for (int k = 0; k < FE_STRETCH; k += 32) {                     \
                in_a = in_b = ~(MASK){0};                                                          \
                _Pragma("GCC unroll 8") for (int j = 0; j < 16; j += COUNT) {                      \
                    memcpy(&a, x + k + j, sizeof a);                                               \
                    memcpy(&b, x + k + j + 16, sizeof b);                                          \
                    FE_KEEP(a);                                                                    \
                    FE_KEEP(b);                                                                    \
                    sane = SANE(sane, a, b);                                                       \
                    in_a = BETWEEN(in_a, a, least, most);                                          \
                    in_b = BETWEEN(in_b, b, least, most);                                          \
                    a = LARGER(a, b);                                                              \
                    best = LARGER(a, best);                                                        \
                }                                                                                  \
                in_a = ~in_a;                                                                      \
                in_b = ~in_b;                                                                      \
                some |= (uint64_t)(BITS(in_a) != 0) << (k / 16);                                   \
                some |= (uint64_t)(BITS(in_b) != 0) << (k / 16 + 1);                               \
            }                                                                                      \
            held[s / 8] |= some << (s % 8 * 8);                                                    \
            rises = best > top;                                                                    \
            first = (first & ~rises) | ((INT)s & rises);                                           \
            top = LARGER(best, top);                                                               \
        }                                                                                          \
        a = top;                                                                                   \
        for (int by = COUNT / 2; by; by /= 2) {                                                    \
            memcpy(&turned, INDEX, sizeof turned);                                                 \
            b = FE_TURN(top, (turned + (INT)by) & (INT)(COUNT - 1), VECTOR, COUNT);                \
            top = LARGER(b, top);                                                                  \
        }                                                                                          \
        *where = count;                                                                            \
        memcpy(seen, &first, sizeof first);                                                        \
        for (unsigned lanes = EQUAL(a, top); lanes; lanes &= lanes - 1) {                          \
            INT s = seen[__builtin_ctz(lanes)];                                                    \
            *where = s < *where ? s : *where;                                                      \
        }                                                                                          \
        sane = ~sane;                                                                              \
        return BITS(sane) ? (REAL)NAN : top[0];                                                    \
    }                                                                                              \
    static inline ptrdiff_t fe_ends_held_##NAME(const REAL *const *at, const uint64_t *held,       \
                                                REAL low, REAL high, REAL *out) {                  \
        ptrdiff_t found = 0;                                                                       \
        for (int w = 0; w < 2; w++)                                                                \
            for (uint64_t some = held[w]; some; some &= some - 1) {                                \
                int k = __builtin_ctzll(some);                                                     \
                found += fe_ends_##NAME(at[8 * w + k / 8] + 16 * (k % 8), 16, low, high,           \
                                        out + found);                                              \
            }                                                                                      \
        return found;                                                                              \
    }
FE_SCAN(float, float, fe_wide_floats, fe_wide_ints, int32_t, fe_index32, (FE_WIDTH * 2),
        FE_LARGER_FLOAT, fe_sane_floats, FE_SANE_FLOAT, FE_BETWEEN_FLOAT, FE_BITS_FLOAT,
        FE_EQUAL_FLOAT)
FE_SCAN(double, double, fe_doubles, fe_longs, int64_t, fe_index64, FE_WIDTH, FE_LARGER_DOUBLE,
        fe_sane_doubles, FE_SANE_DOUBLE, FE_BETWEEN_DOUBLE, FE_BITS_DOUBLE, FE_EQUAL_DOUBLE)

#endif
