/* Totals and the standard error of a mean from exact sums of few limbs: for reports of many groups.

   √((A − S²/n) / (n (n − 1))), correctly rounded, as fastent.results works it out of Python's integers
   in twenty times the time. What does not fit in these integers is left to that. */
#ifndef FASTENT_UNIT_ERROR_H
#define FASTENT_UNIT_ERROR_H

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

/* The double nearest to limbs of 32 bits in units of 2^-1074; limb[top] is the highest that is not 0, or top 1. */
static double round_limbs(const uint64_t *limb, int top) {
    uint64_t m = limb[top] << 32 | limb[top - 1], below = 0;
    int i, shift = m ? __builtin_clzll(m) : 63;
    if (top == 1)
        return shift >= 11 ? ldexp((double)m, -1074) : round_bits(m, 0, -1074);
    m = m << shift | limb[top - 2] >> (32 - shift);
    below = limb[top - 2] << (32 + shift);
    for (i = 0; i < top - 2; i++)
        below |= limb[i];
    return round_bits(m, below != 0, 32 * (top - 1) - shift - 1074);
}

#ifdef __SIZEOF_INT128__

enum { UNIT_PARTS = 8, UNIT_WORDS = 24, UNIT_MOST_ROWS = 2000000 };

typedef struct {
    uint64_t word[UNIT_WORDS];
    int negative;
} Wide;

/* The integer of carried limbs of 32 bits, of which the last has the sign. */
static void wide_of(Wide *x, const int64_t *limb, int size) {
    uint64_t carry = 1, part;
    int i;
    memset(x, 0, sizeof(*x));
    x->negative = size > 0 && limb[size - 1] < 0;
    for (i = 0; i < size; i++) {
        part = (uint64_t)limb[i] & 0xFFFFFFFFu;
        if (x->negative) {                              /* two's complement, limb by limb */
            carry += ~part & 0xFFFFFFFFu;
            part = carry & 0xFFFFFFFFu;
            carry >>= 32;
        }
        x->word[i / 2] |= part << 32 * (i % 2);
    }
}

static int wide_bits(const Wide *x) {
    int i;
    for (i = UNIT_WORDS - 1; i >= 0; i--)
        if (x->word[i])
            return 64 * i + 64 - __builtin_clzll(x->word[i]);
    return 0;
}

/* floor(x · 2^shift), and whether something was cut off; what it becomes must fit. */
static int wide_shift(Wide *x, int shift) {
    int words = (shift < 0 ? -shift : shift) / 64, bits = (shift < 0 ? -shift : shift) % 64, i, lost = 0;
    if (shift >= 0) {
        for (i = UNIT_WORDS - 1; i >= 0; i--) {
            uint64_t high = i >= words ? x->word[i - words] : 0;
            uint64_t low = i > words ? x->word[i - words - 1] : 0;
            x->word[i] = bits ? high << bits | low >> (64 - bits) : high;
        }
        return 0;
    }
    for (i = 0; i < words && i < UNIT_WORDS; i++)
        lost |= x->word[i] != 0;
    if (bits && words < UNIT_WORDS)
        lost |= (x->word[words] & (((uint64_t)1 << bits) - 1)) != 0;
    for (i = 0; i < UNIT_WORDS; i++) {
        uint64_t low = i + words < UNIT_WORDS ? x->word[i + words] : 0;
        uint64_t high = i + words + 1 < UNIT_WORDS ? x->word[i + words + 1] : 0;
        x->word[i] = bits ? low >> bits | high << (64 - bits) : low;
    }
    return lost;
}

/* The same of m of 62 bits or more; −1 where it is not a usual number. */
static double unit_round(uint64_t m, int more, int e) {
    int top = e + 11 - __builtin_clzll(m);
    return top < -900 || top > 900 ? -1.0 : round_bits(m, more, e);
}

/* The double nearest to x·2^(32 low − 1074) for carried limbs; NaN: it does not fit. */
static double unit_total(const int64_t *limb, int size, int low) {
    Wide x;
    int bits, lost;
    double found;
    if (size > 2 * UNIT_WORDS)
        return NAN;
    wide_of(&x, limb, size);
    bits = wide_bits(&x);
    if (bits == 0)
        return 0.0;
    lost = wide_shift(&x, 64 - bits);
    found = unit_round(x.word[0], lost, bits - 64 + 32 * low - 1074);
    return found < 0 ? NAN : x.negative ? -found : found;
}

/* S = s·2^(32 s_low − 1074), A likewise; −1.0: it does not fit. */
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
    wide_of(&a, a_limb, a_size);
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
    power = s_size == 0 || a_power < s_power ? a_power : s_power;
    if (a.negative || wide_bits(&a) + a_power - power > 64 * UNIT_WORDS
        || wide_bits(&square) + (s_size ? s_power - power : 0) > 64 * UNIT_WORDS)
        return -1.0;
    wide_shift(&a, a_power - power);
    if (s_size)
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
    return unit_round(root, lost, (power - 2148 - shift) / 2);
}

#else /* machines of 32 bits */

static double unit_total(const int64_t *limb, int size, int low) {
    (void)limb; (void)size; (void)low;
    return NAN;
}

static double unit_error(const int64_t *s_limb, int s_size, int s_low, const int64_t *a_limb, int a_size,
                         int a_low, int64_t rows) {
    (void)s_limb; (void)s_size; (void)s_low; (void)a_limb; (void)a_size; (void)a_low; (void)rows;
    return -1.0;
}

#endif

#endif
