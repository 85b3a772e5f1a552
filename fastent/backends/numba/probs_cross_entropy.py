"""Sparse columns and entropy from probabilities.

log S and log p of a large class cancel when a row is nearly one-hot and its sum S is not exactly 1,
so the large class (at most one exceeds 3/4) is kept out: its surprisal is log1p(R / p) with R the
sum of the others. Rows that are odd in any way are marked, and done once more in `careful`.
"""

from functools import partial

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .constants import AGAIN, kernel
from .functions import (
    LEAST_DOUBLE,
    NEAR,
    log_normal,
    log_of_sum,
    log_positive,
    log_ratio,
    surprisal_of,
)
from .fused import row_adder
from .loops import at, mapped, number
from .sums import (
    APART,
    MOST_ROWS,
    ROOM,
    SPARE,
    block_of,
    copy,
    lane_max,
    mark,
    row_loop,
    row_sums,
    settled,
    smaller,
    term_loop,
    within,
)
from .vectors import choose

BIG = 0.75  # the large class is kept out above this
OWN, VALUE, ODD = 2, 6, 7  # where they stand among the sums of rows


def flat(formula):
    """The same terms as arrays."""

    def terms(x):
        return formula(x)[:-1]

    return terms


def entropy_sums(x):
    """−x log x and x without the large class, and the large class."""
    small = x <= BIG  # not true of NaN, which ends up among the large ones
    term = choose(small, x * surprisal_of(x), 0.0)
    return term, choose(small, x, 0.0), choose(small, 0.0, x), x.bits(), None


def entropy_value(wide, t, rest, big, low, high):
    """Odd where the sum is not near 1, if not `wide`."""
    total = rest + big
    near = abs(total - 1.0) <= NEAR
    log_total, sound = log_of_sum(total), within(low, high, total)
    if wide:
        log_total = choose(near, log_total, log_positive(total))
    else:
        sound = sound & near
    value = t + rest * log_total + choose(big > 0.0, big * log_ratio(rest, big), 0.0)
    return settled(value / total, sound)


map_near, map_wide = (row_loop(partial(entropy_value, wide), 3, 2) for wide in (False, True))


def entropy_kernel(few):
    """A kernel of rows that are mapped together or added up by themselves."""
    map_terms = term_loop(flat(entropy_sums), 1, 3) if few else None
    add_rows = None if few else row_adder(entropy_sums, 1, 3)

    @kernel
    def rows(x, classes, low, high, t, s, out, parts, faults):
        """Entropy of rows of probabilities, into `faults` where a row is odd; `parts`, (3, rows) or
        empty, is for the sums, where the rows are parts of a longer one."""
        together = smaller(block_of(t) // classes, MOST_ROWS) if few else MOST_ROWS
        for begin in range(0, out.size, together):
            n, start, negative = smaller(together, out.size - begin), begin * classes, 0
            if few:
                negative += map_terms(n * classes, at(x, start), at(t, 0))
                row_sums(at(t, 0), 3, n, classes, at(s, 0))
            else:
                add_rows(
                    n, classes, x.size - start, at(x, start), at(t, 0), at(s, 0), at(faults, begin)
                )
            odd = map_near(n, at(s, 0), at(s, VALUE * APART), low, high)
            if odd > 0:
                odd = map_wide(n, at(s, 0), at(s, VALUE * APART), low, high)
            copy(n, at(s, VALUE * APART), at(out, begin))
            if parts.size > 0:
                for k in range(3):
                    copy(n, at(s, k * APART), at(parts[k], begin))
            if odd + negative > 0:
                mark(n, at(s, ODD * APART), negative, at(faults, begin))

    return rows


ENTROPY = {few: entropy_kernel(few) for few in (False, True)}


@kernel
def entropy_of_sums(s, low, high, out, faults):
    """The entropy of one row from its three sums."""
    if map_wide(1, at(s, 0), at(s, VALUE * APART), low, high) > 0:
        faults[0] = AGAIN
    out[0] = s[VALUE * APART]


def plain_sums(x):
    return x, x.bits(), None


def square_sums(x):
    return x, x * x, x.bits(), None


def sparse_value(wide, rest, own, low, high):
    """Odd where the sum is not near 1 or the label has next to nothing, if not `wide`."""
    total = rest + own
    near = abs(total - 1.0) <= NEAR
    log_total, sound = log_of_sum(total), within(low, high, total)
    if wide:
        log_total = choose(near, log_total, log_positive(total))
        log_own = log_positive(own)
    else:
        sound = sound & near & (own >= LEAST_DOUBLE)
        log_own = log_normal(own)
    return settled(choose(rest < own, log_ratio(rest, own), log_total - log_own), sound)


def brier_value(rest, square, own):
    total = rest + own
    return (square + rest * rest) / (total * total), None


map_losses, map_wide_losses = (
    mapped(partial(sparse_value, wide), 2, 2, APART, apart=OWN * APART, padded=True)
    for wide in (False, True)
)
map_briers = row_loop(brier_value, 3, 1)


@intrinsic
def rank_of(typingctx, x, n, label):
    """Classes above the label plus equal ones before it; a plain loop, which LLVM vectorises."""

    def codegen(context, builder, signature, args):
        x, n, label = args
        own = builder.load(builder.gep(x, [label]))
        rank = cgutils.alloca_once_value(builder, number(0))
        with cgutils.for_range(builder, n) as loop:
            value = builder.load(builder.gep(x, [loop.index]))
            before = builder.icmp_signed("<", loop.index, label)
            tie = builder.and_(builder.fcmp_ordered("==", value, own), before)
            counts = builder.or_(builder.fcmp_ordered(">", value, own), tie)
            more = builder.zext(counts, rank.type.pointee)
            builder.store(builder.add(builder.load(rank), more), rank)
        return builder.load(rank)

    return types.intp(x, types.intp, types.intp), codegen


@kernel
def extra_columns(x, begin, n, classes, labels, s, rows):
    brier, rank, accuracy, confidence = rows
    if brier.size > 0:
        map_briers(n, at(s, 0), at(s, SPARE * APART))
        copy(n, at(s, SPARE * APART), at(brier, begin))
    for r in range(n):
        row, label = (begin + r) * classes, labels[begin + r]
        if label < 0:
            continue
        if rank.size + accuracy.size > 0:
            found = rank_of(at(x, row), classes, label)
            if rank.size > 0:
                rank[begin + r] = found
            if accuracy.size > 0:
                accuracy[begin + r] = 1.0 if found == 0 else 0.0
        if confidence.size > 0:
            total = s[r] + s[OWN * APART + r]
            confidence[begin + r] = lane_max(at(x, row), classes) / total


def sparse_kernel(few, squares):
    """A kernel of sparse columns of rows that are mapped together or added up by themselves; the
    Brier score, ranks and confidence only if `squares`."""
    formula, arrays = (square_sums, 2) if squares else (plain_sums, 1)
    map_terms = term_loop(flat(formula), 1, arrays) if few else None
    add_rows = None if few else row_adder(formula, 1, arrays, label=True)

    @kernel
    def rows(x, classes, labels, low, high, t, s, out, others, faults):
        together = smaller(block_of(t) // classes, MOST_ROWS) if few else MOST_ROWS
        for begin in range(0, labels.size, together):
            n = smaller(together, labels.size - begin)
            start, negative = begin * classes, 0
            for r in range(n):
                label = labels[begin + r]
                s[OWN * APART + r] = x[start + r * classes + label] if label >= 0 else 1.0
            if few:
                negative += map_terms(n * classes, at(x, start), at(t, 0))
                for r in range(n):
                    if labels[begin + r] >= 0:
                        place = r * classes + labels[begin + r]
                        t[place] = 0.0
                        if squares:
                            t[place + ROOM] = 0.0
                row_sums(at(t, 0), arrays, n, classes, at(s, 0))
            else:
                add_rows(
                    n, classes, x.size - start, at(x, start), at(t, 0), at(s, 0),
                    at(faults, begin), at(labels, begin),
                )  # fmt: skip
            odd = map_losses(n, at(s, 0), at(s, VALUE * APART), low, high)
            if odd > 0:
                odd = map_wide_losses(n, at(s, 0), at(s, VALUE * APART), low, high)
            if out.size > 0:
                copy(n, at(s, VALUE * APART), at(out, begin))
            if squares:
                extra_columns(x, begin, n, classes, labels, s, others)
            if odd + negative > 0:
                mark(n, at(s, ODD * APART), negative, at(faults, begin))

    return rows


SPARSE = {(few, more): sparse_kernel(few, more) for few in (False, True) for more in (False, True)}
