/* Sums and maxima over fixed lanes, and the bit casts and fma that Cython has no words for.

   A row is summed in 16 lanes of double, folded by a fixed tree, so a sum has the same bits at
   every SIMD level. Written with the vector extension of GCC and clang, which knows no instruction
   set: the same sum as a plain loop costs 22 ns a row of 100 floats instead of 9, because GCC 12
   does not keep the lanes in registers for the fold and runs the tail one element at a time.

   Sums read up to 15 elements past the end of a row (and ignore them): rows are summed from
   scratch buffers that have that room, never from the caller's memory. */
#ifndef FASTENT_LANES_H
#define FASTENT_LANES_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define FE_WIDTH 8
#elif defined(__AVX__)
#define FE_WIDTH 4
#else
#define FE_WIDTH 2
#endif
#define FE_VECTORS (16 / FE_WIDTH)

typedef float fe_floats __attribute__((vector_size(FE_WIDTH * 4)));
typedef int32_t fe_ints __attribute__((vector_size(FE_WIDTH * 4)));
typedef double fe_doubles __attribute__((vector_size(FE_WIDTH * 8)));
typedef int64_t fe_longs __attribute__((vector_size(FE_WIDTH * 8)));
typedef double fe_double4 __attribute__((vector_size(32)));
typedef double fe_double2 __attribute__((vector_size(16)));

static const int32_t fe_index32[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const int64_t fe_index64[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static inline fe_doubles fe_widen(fe_floats x) {
#if FE_WIDTH == 8
    return (fe_doubles)_mm512_cvtps_pd((__m256)x); /* GCC 12 splits __builtin_convertvector here */
#else
    return __builtin_convertvector(x, fe_doubles);
#endif
}

/* ((0+8)+(4+12)) + ... : the same tree at every width */
static inline double fe_fold(const fe_doubles *lane) {
#if FE_WIDTH == 8
    fe_doubles eight = lane[0] + lane[1];
    fe_double4 low, high;
    memcpy(&low, &eight, 32);
    memcpy(&high, (const char *)&eight + 32, 32);
    fe_double4 four = low + high;
    fe_double2 a, b;
    memcpy(&a, &four, 16);
    memcpy(&b, (const char *)&four + 16, 16);
    fe_double2 two = a + b;
#elif FE_WIDTH == 4
    fe_doubles four = (lane[0] + lane[2]) + (lane[1] + lane[3]);
    fe_double2 a, b;
    memcpy(&a, &four, 16);
    memcpy(&b, (const char *)&four + 16, 16);
    fe_double2 two = a + b;
#else
    fe_double2 two = ((lane[0] + lane[4]) + (lane[2] + lane[6]))
                   + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
#endif
    return two[0] + two[1];
}

/* Floats are added in pairs first, 16 apart: half a rounding of float (3e-8 of the sum of absolute
   values), and half the conversions, which are most of the work. */
static inline double fe_lane_sum_float(const float *x, ptrdiff_t n) {
    fe_doubles lane[FE_VECTORS];
    ptrdiff_t pairs = n & ~(ptrdiff_t)31, full = n & ~(ptrdiff_t)15;
    memset(lane, 0, sizeof lane);
    for (ptrdiff_t j = 0; j < pairs; j += 32)
        for (int k = 0; k < FE_VECTORS; k++) {
            fe_floats v, w;
            memcpy(&v, x + j + FE_WIDTH * k, sizeof v);
            memcpy(&w, x + j + 16 + FE_WIDTH * k, sizeof w);
            lane[k] += fe_widen(v + w);
        }
    if (pairs < full)
        for (int k = 0; k < FE_VECTORS; k++) {
            fe_floats v;
            memcpy(&v, x + pairs + FE_WIDTH * k, sizeof v);
            lane[k] += fe_widen(v);
        }
    if (full < n)
        for (int k = 0; k < FE_VECTORS; k++) {
            fe_ints v, index;
            memcpy(&v, x + full + FE_WIDTH * k, sizeof v);
            memcpy(&index, fe_index32 + FE_WIDTH * k, sizeof index);
            v &= index < (int32_t)(n - full);
            lane[k] += fe_widen((fe_floats)v);
        }
    return fe_fold(lane);
}

static inline double fe_lane_sum_double(const double *x, ptrdiff_t n) {
    fe_doubles lane[FE_VECTORS];
    ptrdiff_t full = n & ~(ptrdiff_t)15;
    memset(lane, 0, sizeof lane);
    for (ptrdiff_t j = 0; j < full; j += 16)
        for (int k = 0; k < FE_VECTORS; k++) {
            fe_doubles v;
            memcpy(&v, x + j + FE_WIDTH * k, sizeof v);
            lane[k] += v;
        }
    if (full < n)
        for (int k = 0; k < FE_VECTORS; k++) {
            fe_longs v, index;
            memcpy(&v, x + full + FE_WIDTH * k, sizeof v);
            memcpy(&index, fe_index64 + FE_WIDTH * k, sizeof index);
            v &= index < (int64_t)(n - full);
            lane[k] += (fe_doubles)v;
        }
    return fe_fold(lane);
}

/* Largest element of n >= 1, NaN if there is one; reads nothing outside x. Four vectors at once,
   because one running maximum waits for itself; the last vector overlaps the one before. A plain
   loop over an array of maxima stays scalar in GCC 12 (0.6 ns an element instead of 0.05). */
typedef float fe_wide_floats __attribute__((vector_size(FE_WIDTH * 8)));
typedef int32_t fe_wide_ints __attribute__((vector_size(FE_WIDTH * 8)));

#define FE_SELECT(mask, a, b, VECTOR, INTS) ((VECTOR)(((INTS)(a) & (mask)) | ((INTS)(b) & ~(mask))))
#define FE_TOP(NAME, REAL, VECTOR, INTS, COUNT)                                                    \
    static inline REAL NAME(const REAL *x, ptrdiff_t n) {                                          \
        REAL top = x[0];                                                                           \
        int nan = 0;                                                                               \
        ptrdiff_t j = 0;                                                                           \
        if (n < COUNT) {                                                                           \
            for (; j < n; j++) {                                                                   \
                nan |= x[j] != x[j];                                                               \
                top = x[j] > top ? x[j] : top;                                                     \
            }                                                                                      \
            return nan ? (REAL)NAN : top;                                                          \
        }                                                                                          \
        VECTOR best[4], v[4];                                                                      \
        INTS bad = {0};                                                                            \
        for (int k = 0; k < 4; k++) memcpy(&best[k], x, sizeof best[k]);                           \
        for (; j + 4 * COUNT <= n; j += 4 * COUNT)                                                 \
            for (int k = 0; k < 4; k++) {                                                          \
                memcpy(&v[k], x + j + k * COUNT, sizeof v[k]);                                     \
                bad |= v[k] != v[k];                                                               \
                best[k] = FE_SELECT(v[k] > best[k], v[k], best[k], VECTOR, INTS);                  \
            }                                                                                      \
        for (; j < n; j += COUNT) {                                                                \
            memcpy(&v[0], x + (j + COUNT <= n ? j : n - COUNT), sizeof v[0]);                      \
            bad |= v[0] != v[0];                                                                   \
            best[0] = FE_SELECT(v[0] > best[0], v[0], best[0], VECTOR, INTS);                      \
        }                                                                                          \
        for (int k = 1; k < 4; k++)                                                                \
            best[0] = FE_SELECT(best[k] > best[0], best[k], best[0], VECTOR, INTS);                \
        for (int k = 0; k < COUNT; k++) {                                                          \
            nan |= bad[k] != 0;                                                                    \
            top = best[0][k] > top ? best[0][k] : top;                                             \
        }                                                                                          \
        return nan ? (REAL)NAN : top;                                                              \
    }
FE_TOP(fe_lane_max_float, float, fe_wide_floats, fe_wide_ints, (FE_WIDTH * 2))
FE_TOP(fe_lane_max_double, double, fe_doubles, fe_longs, FE_WIDTH)

static inline uint32_t fe_bits_float(float x) { uint32_t b; memcpy(&b, &x, 4); return b; }
static inline uint64_t fe_bits_double(double x) { uint64_t b; memcpy(&b, &x, 8); return b; }
static inline float fe_from_bits_float(uint32_t b) { float x; memcpy(&x, &b, 4); return x; }
static inline double fe_from_bits_double(uint64_t b) { double x; memcpy(&x, &b, 8); return x; }

/* a*b + c where one rounding or two make no difference to the bound: fused only in hardware */
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__aarch64__)
static inline float fe_madd_float(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline double fe_madd_double(double a, double b, double c) { return __builtin_fma(a, b, c); }
/* x - k ln 2 for a whole k, and the ln 2 it takes: at 80 octaves the float is wrong by 2e-7 */
#define FE_OCTAVE ((double)0.693147181f)
static inline float fe_less_octaves(float x, float k) { return __builtin_fmaf(-k, 0.693147181f, x); }
#else
static inline float fe_madd_float(float a, float b, float c) { return a * b + c; }
static inline double fe_madd_double(double a, double b, double c) { return a * b + c; }
#define FE_OCTAVE 0.69314718055994530942
static inline float fe_less_octaves(float x, float k) {
    return (x - k * 0.693359375f) - k * -2.12194440e-4f;
}
#endif

#endif
