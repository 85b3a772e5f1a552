/* Matrices turned in registers: four lines of a block become vectors that run across the lines.

   In 256 bits also where there are 512: two shuffles of 256 bits take as long as one, and half of the loads are
   halves of vectors already. The halves of a vector come from lines that are apart, and never mix. */
#ifndef FASTENT_ACROSS_H
#define FASTENT_ACROSS_H

#include "lane_sums.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX__)
#define FE_ROW_SIZE 32
#else
#define FE_ROW_SIZE 16
#endif
#define FE_FLOAT_LINES (FE_ROW_SIZE / 4)
#define FE_DOUBLE_LINES (FE_ROW_SIZE / 8)
typedef float fe_float_row __attribute__((vector_size(FE_ROW_SIZE)));
typedef int32_t fe_int_row __attribute__((vector_size(FE_ROW_SIZE)));
typedef double fe_double_row __attribute__((vector_size(FE_ROW_SIZE)));
typedef int64_t fe_long_row __attribute__((vector_size(FE_ROW_SIZE)));

/* FE_MORE: the larger one, the second where there is a NaN: one instruction, which GCC 12 does not make of a
   comparison and a selection of vectors. */
#if defined(__AVX__)
#define FE_LOW(a, b) FE_PICK(a, b, fe_int_row, 0, 8, 1, 9, 4, 12, 5, 13)
#define FE_HIGH(a, b) FE_PICK(a, b, fe_int_row, 2, 10, 3, 11, 6, 14, 7, 15)
#define FE_FRONT(a, b) FE_PICK(a, b, fe_int_row, 0, 1, 8, 9, 4, 5, 12, 13)
#define FE_BACK(a, b) FE_PICK(a, b, fe_int_row, 2, 3, 10, 11, 6, 7, 14, 15)
#define FE_EVEN(a, b) FE_PICK(a, b, fe_long_row, 0, 4, 2, 6)
#define FE_ODD(a, b) FE_PICK(a, b, fe_long_row, 1, 5, 3, 7)
#define FE_MORE_FLOAT(v, best) ((fe_float_row)_mm256_max_ps((__m256)(v), (__m256)(best)))
#define FE_MORE_DOUBLE(v, best) ((fe_double_row)_mm256_max_pd((__m256d)(v), (__m256d)(best)))
#else
#define FE_LOW(a, b) FE_PICK(a, b, fe_int_row, 0, 4, 1, 5)
#define FE_HIGH(a, b) FE_PICK(a, b, fe_int_row, 2, 6, 3, 7)
#define FE_FRONT(a, b) FE_PICK(a, b, fe_int_row, 0, 1, 4, 5)
#define FE_BACK(a, b) FE_PICK(a, b, fe_int_row, 2, 3, 6, 7)
#define FE_EVEN(a, b) FE_PICK(a, b, fe_long_row, 0, 2)
#define FE_ODD(a, b) FE_PICK(a, b, fe_long_row, 1, 3)
#if defined(__SSE2__)
#define FE_MORE_FLOAT(v, best) ((fe_float_row)_mm_max_ps((__m128)(v), (__m128)(best)))
#define FE_MORE_DOUBLE(v, best) ((fe_double_row)_mm_max_pd((__m128d)(v), (__m128d)(best)))
#else
#define FE_MORE(v, best, INTS, ROW) ((ROW)(((INTS)(v) & ((v) > (best))) | ((INTS)(best) & ~((v) > (best)))))
#define FE_MORE_FLOAT(v, best) FE_MORE(v, best, fe_int_row, fe_float_row)
#define FE_MORE_DOUBLE(v, best) FE_MORE(v, best, fe_long_row, fe_double_row)
#endif
#endif

typedef struct { fe_float_row of[4]; } fe_float_block;
typedef struct { fe_double_row of[2]; } fe_double_block;

/* `at` is the first line, `stride` the distance of lines in bytes, `last` the last line there is. */
static inline const char *fe_line(const char *at, ptrdiff_t stride, ptrdiff_t k, ptrdiff_t last) {
    return at + (k < last ? k : last) * stride;
}

/* 16 bytes of line k, and of the one `apart` lines on where a vector has 32. */
static inline fe_float_row fe_of_lines(const char *at, ptrdiff_t stride, ptrdiff_t k, ptrdiff_t apart, ptrdiff_t last) {
#if defined(__AVX__)
    return (fe_float_row)_mm256_loadu2_m128((const float *)fe_line(at, stride, k + apart, last),
                                            (const float *)fe_line(at, stride, k, last));
#else
    fe_float_row x;
    memcpy(&x, fe_line(at, stride, k, last), sizeof x);
    return x;
#endif
}

/* Four floats (two doubles) of each line, turned. */
FE_INLINE fe_float_block fe_turned_float(const char *at, ptrdiff_t stride, ptrdiff_t last) {
    fe_float_row a = fe_of_lines(at, stride, 0, 4, last), b = fe_of_lines(at, stride, 1, 4, last);
    fe_float_row c = fe_of_lines(at, stride, 2, 4, last), d = fe_of_lines(at, stride, 3, 4, last);
    fe_float_row ab = FE_LOW(a, b), cd = FE_LOW(c, d), ab_high = FE_HIGH(a, b), cd_high = FE_HIGH(c, d);
    fe_float_block block = {{FE_FRONT(ab, cd), FE_BACK(ab, cd), FE_FRONT(ab_high, cd_high), FE_BACK(ab_high, cd_high)}};
    return block;
}

FE_INLINE fe_double_block fe_turned_double(const char *at, ptrdiff_t stride, ptrdiff_t last) {
    fe_double_row a = (fe_double_row)fe_of_lines(at, stride, 0, 2, last);
    fe_double_row b = (fe_double_row)fe_of_lines(at, stride, 1, 2, last);
    fe_double_block block = {{FE_EVEN(a, b), FE_ODD(a, b)}};
    return block;
}

/* Rows of a few classes laid across the vectors, out[c·step + r] = x[r·classes + c], and their largest
   elements in the same pass. Reads at most `readable` elements of x; classes are filled up with -inf
   to a multiple of 4 (of 2 for doubles), and `out` needs room for them. */
#define FE_LAY_ACROSS(NAME, REAL, ROW, INTS, BLOCK, TURNED, COLUMNS, LINES, MORE)                  \
    static inline void NAME(const REAL *x, ptrdiff_t rows, ptrdiff_t classes, ptrdiff_t readable,  \
                            REAL *out, ptrdiff_t step, REAL *top) {                                \
        const ROW none = (ROW){0} - (REAL)INFINITY;                                                \
        ptrdiff_t r = 0, c, filled = (classes + COLUMNS - 1) / COLUMNS * COLUMNS, stride = classes * sizeof(REAL);\
        INTS kept[COLUMNS];                                                                        \
        for (int k = 0; k < COLUMNS; k++)                                                          \
            kept[k] = (INTS){0} - (k <= (classes - 1) % COLUMNS);                                  \
        for (; r + LINES <= rows && (r + LINES - 1) * classes + filled <= readable; r += LINES) {  \
            const char *at = (const char *)(x + r * classes);                                      \
            ROW best = none;                                                                       \
            for (c = 0; c < filled; c += COLUMNS) {                                                \
                BLOCK block = TURNED(at + c * sizeof(REAL), stride, LINES - 1);                    \
                if (c + COLUMNS > classes)                                                         \
                    _Pragma("GCC unroll 4") for (int k = 0; k < COLUMNS; k++) {                    \
                        block.of[k] = (ROW)(((INTS)block.of[k] & kept[k]) | ((INTS)none & ~kept[k]));\
                    }                                                                              \
                _Pragma("GCC unroll 4") for (int k = 0; k < COLUMNS; k++) {                        \
                    memcpy(out + (c + k) * step + r, &block.of[k], sizeof none);                   \
                    best = MORE(block.of[k], best);                                                \
                }                                                                                  \
            }                                                                                      \
            memcpy(top + r, &best, sizeof best);                                                   \
        }                                                                                          \
        for (; r < rows; r++) {                                                                    \
            top[r] = -(REAL)INFINITY;                                                              \
            for (c = 0; c < filled; c++) {                                                         \
                REAL v = c < classes ? x[r * classes + c] : -(REAL)INFINITY;                       \
                out[c * step + r] = v;                                                             \
                top[r] = v > top[r] ? v : top[r];                                                  \
            }                                                                                      \
        }                                                                                          \
    }
FE_LAY_ACROSS(fe_lay_across_float, float, fe_float_row, fe_int_row, fe_float_block, fe_turned_float, 4,
              FE_FLOAT_LINES, FE_MORE_FLOAT)
FE_LAY_ACROSS(fe_lay_across_double, double, fe_double_row, fe_long_row, fe_double_block, fe_turned_double, 2,
              FE_DOUBLE_LINES, FE_MORE_DOUBLE)
#define fe_lay_across(x, ...) FE_OF(fe_lay_across, *(x))(x, __VA_ARGS__)

#endif
