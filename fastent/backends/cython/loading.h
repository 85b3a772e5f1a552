/* The copying loops that a compiler does not find by itself: float16, and blocked transposes, in the
   vector extension of GCC and clang. Addresses need no alignment. */
#ifndef FASTENT_LOADING_H
#define FASTENT_LOADING_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lanes.h"

#if defined(__AVX__)
#include <immintrin.h>
#endif

/* float16 to float: exact, subnormals, infinities and NaN included */
static inline float fe_half(uint16_t bits) {
#if defined(__F16C__)
    return _cvtsh_ss(bits);
#else
    uint32_t magnitude = (uint32_t)(bits & 0x7fff) << 13, sign = (uint32_t)(bits & 0x8000) << 16;
    uint32_t normal = magnitude + ((uint32_t)112 << 23), small = magnitude + ((uint32_t)113 << 23);
    float x;
    if (magnitude >= 0x0f800000) normal += (uint32_t)112 << 23; /* infinite or NaN */
    memcpy(&x, &small, 4); /* a subnormal: its fraction on top of 2^-14, minus 2^-14 */
    x -= 6.103515625e-05f;
    memcpy(&small, &x, 4);
    normal = (magnitude < 0x00800000 ? small : normal) | sign;
    memcpy(&x, &normal, 4);
    return x;
#endif
}

static inline float fe_brain(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &wide, 4);
    return x;
}

/* n contiguous 16-bit numbers to float; GCC 12 has no loop for vcvtph2ps */
static inline void fe_halves(const char *restrict at, ptrdiff_t n, float *restrict out) {
    ptrdiff_t i = 0;
    uint16_t bits;
#if defined(__AVX512F__)
    for (; i + 16 <= n; i += 16)
        _mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(at + 2 * i))));
#elif defined(__F16C__)
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(at + 2 * i))));
#endif
    for (; i < n; i++) {
        memcpy(&bits, at + 2 * i, 2);
        out[i] = fe_half(bits);
    }
}

static inline void fe_brains(const char *restrict at, ptrdiff_t n, float *restrict out) {
    for (ptrdiff_t i = 0; i < n; i++) {
        uint16_t bits;
        memcpy(&bits, at + 2 * i, 2);
        out[i] = fe_brain(bits);
    }
}

/* Blocks of classes are turned into rows: 4 rows of floats or 2 of doubles at a time, of as many
   classes as a vector holds. The halves of a vector of 32 bytes come from classes that are apart, and
   never mix. `at` is the first class of the first row, `stride` the distance of classes in bytes,
   `last` the last class that there is, `step` the distance of rows in `out`. */
#if defined(__AVX__)
#define FE_FLOAT_CLASSES 8
#define FE_DOUBLE_CLASSES 4
typedef float fe_float_row __attribute__((vector_size(32)));
typedef int32_t fe_int_row __attribute__((vector_size(32)));
typedef double fe_double_row __attribute__((vector_size(32)));
typedef int64_t fe_long_row __attribute__((vector_size(32)));
#define FE_LOW(a, b) FE_PICK(a, b, fe_int_row, 0, 8, 1, 9, 4, 12, 5, 13)
#define FE_HIGH(a, b) FE_PICK(a, b, fe_int_row, 2, 10, 3, 11, 6, 14, 7, 15)
#define FE_FRONT(a, b) FE_PICK(a, b, fe_int_row, 0, 1, 8, 9, 4, 5, 12, 13)
#define FE_BACK(a, b) FE_PICK(a, b, fe_int_row, 2, 3, 10, 11, 6, 7, 14, 15)
#define FE_EVEN(a, b) FE_PICK(a, b, fe_long_row, 0, 4, 2, 6)
#define FE_ODD(a, b) FE_PICK(a, b, fe_long_row, 1, 5, 3, 7)
#else
#define FE_FLOAT_CLASSES 4
#define FE_DOUBLE_CLASSES 2
typedef float fe_float_row __attribute__((vector_size(16)));
typedef int32_t fe_int_row __attribute__((vector_size(16)));
typedef double fe_double_row __attribute__((vector_size(16)));
typedef int64_t fe_long_row __attribute__((vector_size(16)));
#define FE_LOW(a, b) FE_PICK(a, b, fe_int_row, 0, 4, 1, 5)
#define FE_HIGH(a, b) FE_PICK(a, b, fe_int_row, 2, 6, 3, 7)
#define FE_FRONT(a, b) FE_PICK(a, b, fe_int_row, 0, 1, 4, 5)
#define FE_BACK(a, b) FE_PICK(a, b, fe_int_row, 2, 3, 6, 7)
#define FE_EVEN(a, b) FE_PICK(a, b, fe_long_row, 0, 2)
#define FE_ODD(a, b) FE_PICK(a, b, fe_long_row, 1, 3)
#endif

static inline const char *fe_class(const char *at, ptrdiff_t stride, ptrdiff_t k, ptrdiff_t last) {
    return at + (k < last ? k : last) * stride;
}

static inline fe_float_row fe_floats_of(const char *at, ptrdiff_t stride, ptrdiff_t k, ptrdiff_t last) {
#if defined(__AVX__)
    return (fe_float_row)_mm256_loadu2_m128((const float *)fe_class(at, stride, k + 4, last),
                                            (const float *)fe_class(at, stride, k, last));
#else
    fe_float_row x;
    memcpy(&x, fe_class(at, stride, k, last), sizeof x);
    return x;
#endif
}

static inline fe_double_row fe_doubles_of(const char *at, ptrdiff_t stride, ptrdiff_t k, ptrdiff_t last) {
#if defined(__AVX__)
    return (fe_double_row)_mm256_loadu2_m128d((const double *)fe_class(at, stride, k + 2, last),
                                              (const double *)fe_class(at, stride, k, last));
#else
    fe_double_row x;
    memcpy(&x, fe_class(at, stride, k, last), sizeof x);
    return x;
#endif
}

static inline void fe_turn_float(const char *at, ptrdiff_t stride, ptrdiff_t last, float *out, ptrdiff_t step) {
    fe_float_row a = fe_floats_of(at, stride, 0, last), b = fe_floats_of(at, stride, 1, last);
    fe_float_row c = fe_floats_of(at, stride, 2, last), d = fe_floats_of(at, stride, 3, last);
    fe_float_row ab = FE_LOW(a, b), cd = FE_LOW(c, d), ab_high = FE_HIGH(a, b), cd_high = FE_HIGH(c, d);
    fe_float_row row[4] = {FE_FRONT(ab, cd), FE_BACK(ab, cd), FE_FRONT(ab_high, cd_high), FE_BACK(ab_high, cd_high)};
    memcpy(out, &row[0], sizeof row[0]);
    memcpy(out + step, &row[1], sizeof row[1]);
    memcpy(out + 2 * step, &row[2], sizeof row[2]);
    memcpy(out + 3 * step, &row[3], sizeof row[3]);
}

static inline void fe_turn_double(const char *at, ptrdiff_t stride, ptrdiff_t last, double *out, ptrdiff_t step) {
    fe_double_row a = fe_doubles_of(at, stride, 0, last), b = fe_doubles_of(at, stride, 1, last);
    fe_double_row even = FE_EVEN(a, b), odd = FE_ODD(a, b);
    memcpy(out, &even, sizeof even);
    memcpy(out + step, &odd, sizeof odd);
}

/* Ask for what the next tile needs of a class: into the second level, as the first has no room for
   two tiles. No hardware prefetcher follows two hundred streams (KL, 100 classes first: 1.08 ns a pair
   from memory as from cache, 1.45 with prefetches into the first level, 2.0 without). */
static inline void fe_ask(const char *at, ptrdiff_t size) {
    for (ptrdiff_t i = 0; i < size; i += 64) __builtin_prefetch(at + i, 0, 2);
}

/* Rows of `classes`, contiguous in `at` along the rows, to `out`: a cache line of every class at a
   time, while the one `ahead` bytes further on is asked for. The last block of classes overlaps the
   one before; where there are fewer classes than in a block, the next row overwrites what a row wrote
   too much, and the last rows go one by one. */
#define FE_ACROSS(NAME, REAL, TURN, CLASSES, ROWS)                                                 \
    static inline void NAME(const char *restrict at, ptrdiff_t stride, ptrdiff_t rows,             \
                            ptrdiff_t classes, REAL *restrict out, ptrdiff_t step,                 \
                            ptrdiff_t ahead) {                                                     \
        ptrdiff_t line = 64 / sizeof(REAL), r = 0, next, c, first, i;                              \
        ptrdiff_t whole = rows - (classes < CLASSES ? (CLASSES - 1) / classes : 0);                \
        for (; r + ROWS <= whole; r = next) {                                                      \
            const char *here = at + r * sizeof(REAL);                                              \
            next = r + line <= whole ? r + line : r + ROWS;                                        \
            if (ahead)                                                                             \
                for (c = 0; c < classes; c++) fe_ask(here + c * stride + ahead, 1);                \
            if (classes < CLASSES)                                                                 \
                for (i = 0; i < next - r; i += ROWS)                                               \
                    TURN(here + i * sizeof(REAL), stride, classes - 1, out + (r + i) * step, step);\
            else                                                                                   \
                for (c = 0; c < classes; c += CLASSES) {                                           \
                    first = c + CLASSES <= classes ? c : classes - CLASSES;                        \
                    for (i = 0; i < next - r; i += ROWS)                                           \
                        TURN(here + first * stride + i * sizeof(REAL), stride, CLASSES - 1,        \
                             out + (r + i) * step + first, step);                                  \
                }                                                                                  \
        }                                                                                          \
        for (; r < rows; r++)                                                                      \
            for (c = 0; c < classes; c++)                                                          \
                memcpy(out + r * step + c, at + c * stride + r * sizeof(REAL), sizeof(REAL));      \
    }
FE_ACROSS(fe_across_float, float, fe_turn_float, FE_FLOAT_CLASSES, 4)
FE_ACROSS(fe_across_double, double, fe_turn_double, FE_DOUBLE_CLASSES, 2)

#endif
