/* Totals as doubles, and the standard error of a mean from exact sums of few limbs, for reports of many groups:

   √((A − S²/n) / (n (n − 1))), correctly rounded, as fastent.results works it out of Python's integers
   in twenty times the time. What does not fit in these integers is left to that. */
#ifndef FASTENT_STANDARD_ERROR_H
#define FASTENT_STANDARD_ERROR_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* The double nearest to (m + something below 1 if `more`) · 2^e, for m of 54 bits or more. */
static double round_bits(uint64_t m, int more, int e) {
    int drop = 11 - __builtin_clzll(m);
    uint64_t kept = m >> drop, cut = m & (((uint64_t)1 << drop) - 1), half = (uint64_t)1 << (drop - 1);
    kept += cut > half || (cut == half && (more || (kept & 1)));
    return ldexp((double)kept, e + drop);
}

enum { MOST_LIMBS = 160 };

/* |x| in 32 bits a part, for carried limbs of which the last has the sign, and whether x < 0. */
static int magnitude_of(const int64_t *limb, int size, uint64_t *part) {
    int i, negative = size > 0 && limb[size - 1] < 0;
    uint64_t carry = 1;
    for (i = 0; i < size; i++) {
        part[i] = (uint64_t)limb[i] & 0xFFFFFFFFu;
        if (negative) {                                 /* two's complement, limb by limb */
            carry += ~part[i] & 0xFFFFFFFFu;
            part[i] = carry & 0xFFFFFFFFu;
            carry >>= 32;
        }
    }
    return negative;
}

/* The double nearest to x·2^(32 low − 1074) for carried limbs. */
static double round_limbs(const int64_t *limb, int size, int low) {
    uint64_t part[MOST_LIMBS + 2] = {0}, m, below;      /* two zeros below the limbs */
    int negative = magnitude_of(limb, size, part + 2), i, top = size + 1, shift;
    double found;
    while (top > 2 && part[top] == 0)
        top--;
    m = part[top] << 32 | part[top - 1];
    if (m == 0)
        return 0.0;
    shift = __builtin_clzll(m);
    m = m << shift | part[top - 2] >> (32 - shift);
    below = part[top - 2] << (32 + shift);
    for (i = 2; i < top - 2; i++)
        below |= part[i];
    found = round_bits(m, below != 0, 32 * (top - 3 + low) - shift - 1074);
    return negative ? -found : found;
}

#ifdef __SIZEOF_INT128__

enum { UNIT_PARTS = 8, UNIT_WORDS = 24, UNIT_MOST_ROWS = 2000000 };

typedef struct {
    uint64_t word[UNIT_WORDS];
} Wide;

/* |x| of carried limbs, and whether x < 0. */
static int wide_of(Wide *x, const int64_t *limb, int size) {
    uint64_t part[MOST_LIMBS];
    int i, negative = magnitude_of(limb, size, part);
    memset(x, 0, sizeof(*x));
    for (i = 0; i < size; i++)
        x->word[i / 2] |= part[i] << 32 * (i % 2);
    return negative;
}

static int wide_bits(const Wide *x) {
    int i;
    for (i = UNIT_WORDS - 1; i >= 0; i--)
        if (x->word[i])
            return 64 * i + 64 - __builtin_clzll(x->word[i]);
    return 0;
}

static uint64_t word_of(const Wide *x, int i) {
    return i >= 0 && i < UNIT_WORDS ? x->word[i] : 0;
}

/* floor(x · 2^shift), and whether something was cut off; what it becomes must fit. */
static int wide_shift(Wide *x, int shift) {
    Wide old = *x;
    int words = shift >> 6, bits = shift & 63, i, lost = 0;     /* 64 words + bits = shift, of either sign */
    for (i = 0; i < -words && i < UNIT_WORDS; i++)
        lost |= (i == -words - 1 ? old.word[i] << bits : old.word[i]) != 0;
    for (i = 0; i < UNIT_WORDS; i++)
        x->word[i] = word_of(&old, i - words) << bits | (bits ? word_of(&old, i - words - 1) >> (64 - bits) : 0);
    return lost;
}

/* S = s·2^(32 s_low − 1074), A likewise; −1.0: it does not fit, or is no usual number. */
static double unit_error(const int64_t *s_limb, int s_size, int s_low, const int64_t *a_limb, int a_size,
                         int a_low, int64_t rows) {
    Wide s, a, square;
    uint64_t n = (uint64_t)rows, q, root, borrow = 0;
    int i, j, s_power = 64 * s_low, a_power = 32 * a_low + 1074, power, shift, lost;
    unsigned __int128 part, rest = 0, quotient = 0;
    double guess;
    if (rows < 2 || rows > UNIT_MOST_ROWS || s_size > UNIT_PARTS || a_size > 2 * UNIT_PARTS)
        return -1.0;
    q = n * n * (n - 1);
    wide_of(&s, s_limb, s_size);
    if (wide_of(&a, a_limb, a_size))
        return -1.0;
    memset(&square, 0, sizeof(square));
    for (i = 0; i < UNIT_PARTS / 2; i++) {
        part = 0;
        for (j = 0; j < UNIT_PARTS / 2; j++) {
            part += (unsigned __int128)s.word[i] * s.word[j] + square.word[i + j];
            square.word[i + j] = (uint64_t)part;
            part >>= 64;
        }
        square.word[i + j] = (uint64_t)part;
    }
    part = 0;
    for (i = 0; i <= UNIT_PARTS; i++) {
        part += (unsigned __int128)a.word[i] * n;
        a.word[i] = (uint64_t)part;
        part >>= 64;
    }
    power = a_power < s_power ? a_power : s_power;
    if (wide_bits(&a) + a_power - power > 64 * UNIT_WORDS || wide_bits(&square) + s_power - power > 64 * UNIT_WORDS)
        return -1.0;
    wide_shift(&a, a_power - power);
    wide_shift(&square, s_power - power);
    for (i = 0; i < UNIT_WORDS; i++) {                  /* a becomes n A − S² */
        part = (unsigned __int128)a.word[i] - square.word[i] - borrow;
        a.word[i] = (uint64_t)part;
        borrow = (uint64_t)(part >> 64) & 1;
    }
    if (borrow)
        return -1.0;
    if (wide_bits(&a) == 0)
        return 0.0;
    /* A quotient of 126 to 128 bits, so that its root has 63 or 64. */
    shift = 127 - wide_bits(&a) + 64 - __builtin_clzll(q);
    shift -= (power - 2148 - shift) & 1;
    lost = wide_shift(&a, shift);
    for (i = 3; i >= 0; i--) {
        part = rest << 64 | a.word[i];
        quotient = quotient << 64 | part / q;
        rest = part % q;
    }
    guess = sqrt((double)quotient);                     /* to 53 bits, then one step of Newton */
    root = guess >= 18446744073709551616.0 ? UINT64_MAX : (uint64_t)guess;
    part = (root + quotient / root) >> 1;
    root = part > UINT64_MAX ? UINT64_MAX : (uint64_t)part;
    while ((unsigned __int128)root * root > quotient)
        root--;
    while (root < UINT64_MAX && (unsigned __int128)(root + 1) * (root + 1) <= quotient)
        root++;
    lost |= rest != 0 || (unsigned __int128)root * root != quotient;
    shift = (power - 2148 - shift) / 2;
    return shift < -900 || shift > 900 ? -1.0 : round_bits(root, lost, shift);
}

#else /* machines of 32 bits */

static double unit_error(const int64_t *s_limb, int s_size, int s_low, const int64_t *a_limb, int a_size,
                         int a_low, int64_t rows) {
    (void)s_limb; (void)s_size; (void)s_low; (void)a_limb; (void)a_size; (void)a_low; (void)rows;
    return -1.0;
}

#endif

#endif
