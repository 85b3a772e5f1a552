/* What of a row may belong to its smallest or largest numbers: those at most `low` or at least `high`.

   Written one after another to `out`, which has room for n + 16; returns how many. NaN is neither. */
#ifndef FASTENT_EXTREMES_H
#define FASTENT_EXTREMES_H

#include "argmax.h"

#if FE_WIDTH == 8
/* No branch: which vectors have some is noise. */
#define FE_ENDS(TYPE, LANES, VECTOR, MASK, SUFFIX)                                                 \
    static inline ptrdiff_t fe_ends_##TYPE(const TYPE *x, ptrdiff_t n, TYPE low, TYPE high,        \
                                           TYPE *out) {                                            \
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
#else
/* Most stretches have none: they are passed over with a loop that is a few vectors. */
#define FE_ENDS(TYPE)                                                                              \
    static inline ptrdiff_t fe_ends_##TYPE(const TYPE *x, ptrdiff_t n, TYPE low, TYPE high,        \
                                           TYPE *out) {                                            \
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
#endif

#endif
