"""The columns of every task, and which kernel makes which.

A column is a row value that metrics are made of. Adding one means a line in COLUMNS, and in a kernel that
it names the formula with its number: that of kernels/careful_statistics.pxd takes rows of any kind.
"""

from typing import NamedTuple

from fastent.backends.cython import levels
from fastent.backends.cython.call cimport Call
from fastent.backends.cython.kernels.interface cimport LOGITS, PROBS, Kernel, kernel
from fastent.backends.cython.kernels.careful_statistics cimport OUT_MARGIN
from fastent.backends.cython.kernels.slots cimport (
    ALPHA_ROWS, CAREFUL_CROSS_ENTROPY, CAREFUL_ENTROPY, CAREFUL_PAIR, CAREFUL_STATISTICS, CHI2_ROWS, JEFFREYS_ROWS,
    JS_ROWS, KL_ROWS, MOST_SLOTS, OUT_ACCURACY, OUT_AGREEMENT, OUT_BRIER, OUT_CONFIDENCE, OUT_CROSS_ENTROPY,
    OUT_DIVERGENCE, OUT_ENTROPY, OUT_HELLINGER, OUT_JS, OUT_KL, OUT_PROBABILITY, OUT_RANK, OUT_TARGET_WEIGHT,
    OUT_TOP1_IN_TOP5, OUT_TOP5_OVERLAP, OUT_TOP10_OVERLAP, OUT_TOTAL_VARIATION, PROBS_ENTROPY, PROBS_SPARSE,
    PROBS_TARGET, RENYI_ROWS, TSALLIS_ROWS,
)
from fastent.backends.cython.levels cimport (
    BINARY_CROSS_ENTROPY, CAREFUL, FOCAL_CROSS_ENTROPY, LOGITS_CROSS_ENTROPY, LOGITS_DIVERGENCE, POWER_DIVERGENCE,
    PROBS_CROSS_ENTROPY, PROBS_DIVERGENCE, TOP_OVERLAP, Module,
)
from fastent.backends.cython.tiles.operand cimport FLOAT32
from fastent.backends.cython.tiles.loop cimport BOTH, MOST_STEPS, PRED_ONLY, SWAPPED, TRUE_AS_PRED, Plan, Step


class Column(NamedTuple):
    """A row value: where kernels write it, and which of them makes it from what it sees.

    A kernel is named by its module and its place in the table there. `logs` are logits and
    log-probabilities; `probs_logs` is for a target of probabilities and a prediction of logs.
    `careful` makes what none of these is for: operands of two other kinds, the rows that
    ``row_sums="as_is"`` leaves as they are (`as_is`: of "all" kinds or of "logs"), and the options
    that the column follows ("all": eps, smoothing and weights of classes and terms; or "eps").
    """

    name: str
    slot: int
    sees: int
    probs: object = None
    logs: object = None
    probs_logs: object = None
    careful: object = None
    as_is: str = ""
    options: str = ""
    in_nats: bool = False               # `base` applies
    single: bool = False                # `logs` makes it of float rows only
    unchecked: bool = False             # its kernel looks at no row's sum: another's must


SPARSE = dict(sees=PRED_ONLY, probs=(PROBS_CROSS_ENTROPY, PROBS_SPARSE), logs=(LOGITS_CROSS_ENTROPY, 0))
STATISTICS = dict(careful=(CAREFUL, CAREFUL_STATISTICS), as_is="logs")
STATISTIC = dict(sees=PRED_ONLY, careful=(CAREFUL, CAREFUL_STATISTICS))
LOSS = dict(careful=(CAREFUL, CAREFUL_CROSS_ENTROPY), as_is="all", options="all")
OF_TARGET = dict(
    sees=BOTH, probs=(PROBS_CROSS_ENTROPY, PROBS_TARGET), probs_logs=(LOGITS_CROSS_ENTROPY, 0), in_nats=True,
    **LOSS,
)
TARGET_WEIGHT = dict(careful=(CAREFUL, CAREFUL_CROSS_ENTROPY), options="all")
ENTROPY = dict(
    slot=OUT_ENTROPY, probs=(PROBS_CROSS_ENTROPY, PROBS_ENTROPY), logs=(LOGITS_CROSS_ENTROPY, 0),
    careful=(CAREFUL, CAREFUL_ENTROPY), as_is="all", in_nats=True,
)
KL = dict(
    slot=OUT_KL, probs=(PROBS_DIVERGENCE, KL_ROWS), logs=(LOGITS_DIVERGENCE, KL_ROWS),
    careful=(CAREFUL, CAREFUL_PAIR), as_is="logs", in_nats=True,
)
JS = KL | dict(slot=OUT_JS, probs=(PROBS_DIVERGENCE, JS_ROWS), logs=(LOGITS_DIVERGENCE, JS_ROWS))
PAIR = dict(sees=BOTH, careful=(CAREFUL, CAREFUL_PAIR))
TOPS = dict(
    sees=BOTH, probs=(TOP_OVERLAP, 0), logs=(TOP_OVERLAP, 0), careful=(TOP_OVERLAP, 0), unchecked=True,
)
MAXIMA = 1                              # a place in top_overlap
MAXIMUM = dict(
    slot=OUT_DIVERGENCE, probs=(TOP_OVERLAP, MAXIMA), logs=(TOP_OVERLAP, MAXIMA), careful=(TOP_OVERLAP, MAXIMA),
    unchecked=True,
)
BINARY = dict(sees=BOTH, careful=(BINARY_CROSS_ENTROPY, 0), options="all")


def ready_made(name, module, place, in_nats=False):
    return Column(name, OUT_DIVERGENCE, sees=BOTH, careful=(module, place), in_nats=in_nats)


COLUMNS = {
    "sparse": [
        Column("cross_entropy", OUT_CROSS_ENTROPY, in_nats=True, **SPARSE, **LOSS),
        Column("target_weight", OUT_TARGET_WEIGHT, sees=PRED_ONLY, **TARGET_WEIGHT),
        Column("accuracy", OUT_ACCURACY, **SPARSE),
        Column("rank", OUT_RANK, **SPARSE),
        Column("brier", OUT_BRIER, **SPARSE, **STATISTICS),
        Column("entropy", sees=PRED_ONLY, **ENTROPY),
        Column("confidence", OUT_CONFIDENCE, **SPARSE, **STATISTICS),
        Column("margin", OUT_MARGIN, **STATISTIC),
        Column("predicted", sees=PRED_ONLY, **MAXIMUM),
    ],
    "categorical": [
        Column("target_weight", OUT_TARGET_WEIGHT, sees=BOTH, **TARGET_WEIGHT),
        Column("cross_entropy", OUT_CROSS_ENTROPY, **OF_TARGET),
        Column("entropy", sees=PRED_ONLY, **ENTROPY),
        Column("target_entropy", sees=TRUE_AS_PRED, **ENTROPY),
        Column("kl_divergence", sees=BOTH, options="eps", **KL),
        Column("accuracy", OUT_AGREEMENT, **PAIR),
        Column("brier", OUT_BRIER, **PAIR),
        Column("predicted", sees=PRED_ONLY, **MAXIMUM),
        Column("labelled", sees=TRUE_AS_PRED, **MAXIMUM),
    ],
    "binary": [
        Column("cross_entropy", OUT_CROSS_ENTROPY, in_nats=True, **BINARY),
        Column("accuracy", OUT_ACCURACY, **BINARY),
        Column("brier", OUT_BRIER, **BINARY),
        Column("entropy", OUT_ENTROPY, in_nats=True, **BINARY),
        Column("probability", OUT_PROBABILITY, **BINARY),
    ],
    "divergence": [
        ready_made("alpha_divergence", POWER_DIVERGENCE, ALPHA_ROWS),
        ready_made("tsallis_divergence", POWER_DIVERGENCE, TSALLIS_ROWS),
        ready_made("renyi_divergence", POWER_DIVERGENCE, RENYI_ROWS, in_nats=True),
        ready_made("chi2_divergence", POWER_DIVERGENCE, CHI2_ROWS),
        ready_made("jeffreys_divergence", POWER_DIVERGENCE, JEFFREYS_ROWS, in_nats=True),
        ready_made("focal_cross_entropy", FOCAL_CROSS_ENTROPY, 0, in_nats=True),
        Column("cross_entropy", OUT_CROSS_ENTROPY, **OF_TARGET),
        Column("entropy_q", sees=PRED_ONLY, **ENTROPY),
        Column("entropy_p", sees=TRUE_AS_PRED, **ENTROPY),
        Column("kl_divergence", sees=BOTH, options="eps", **KL),
        Column("reverse_kl", sees=SWAPPED, **KL),
        Column("js_divergence", sees=BOTH, options="eps", **JS),
        Column("total_variation", OUT_TOTAL_VARIATION, logs=(LOGITS_DIVERGENCE, KL_ROWS), as_is="logs", single=True, **PAIR),
        Column("hellinger", OUT_HELLINGER, **PAIR),
        Column("top1_agreement", OUT_AGREEMENT, **TOPS),
        Column("top5_overlap", OUT_TOP5_OVERLAP, **TOPS),
        Column("top10_overlap", OUT_TOP10_OVERLAP, **TOPS),
        Column("top1_in_top5", OUT_TOP1_IN_TOP5, **TOPS),
    ],
    "entropy": [Column("entropy", sees=PRED_ONLY, **ENTROPY)],
    "topk": [],                         # its kernel takes lists, and no tiles: see fastent/_topk.py
}
# what looks at row sums where no column does: of one operand, and of two
CHECKS = (Column("entropy", sees=PRED_ONLY, **ENTROPY), Column("kl_divergence", sees=BOTH, **KL))
REVERSE = OUT_DIVERGENCE                # where the kernel of logits makes KL of the swapped operands beside the other
IN_NATS = frozenset(c.name for columns in COLUMNS.values() for c in columns if c.in_nats)
# for the Numba backend, whose modules have the same names
MODULES = {number: levels.MODULES[number].partition(".")[2] for number in (
    PROBS_CROSS_ENTROPY, PROBS_DIVERGENCE, LOGITS_CROSS_ENTROPY, LOGITS_DIVERGENCE, BINARY_CROSS_ENTROPY, CAREFUL,
    TOP_OVERLAP,
)}
SEEN = {BOTH: (0, 1), SWAPPED: (1, 0), PRED_ONLY: (1,), TRUE_AS_PRED: (0,)}  # of target, prediction
# float rows with a temperature are widened by these; the others are in double anyway
WIDEN = (LOGITS_CROSS_ENTROPY, LOGITS_DIVERGENCE, BINARY_CROSS_ENTROPY)


cdef class Steps:
    """Steps settled once for calls of one form; small calls live on it (0.7 µs of 3)."""

    cdef Step steps[MOST_STEPS]
    cdef int count


cdef inline void step(Steps made, Kernel made_by, int seen, int first, int slot, bint clips, bint widens):
    """Add a kernel whose output number `slot` goes to column `first`, or to none if that is −1; join
    the step before if it is the same kernel on the same operands."""
    cdef Step *s
    cdef int k
    for k in range(made.count):
        s = &made.steps[k]
        if s.kernel == made_by and s.seen == seen and s.clips == clips and s.slot[slot] < 0:
            s.slot[slot] = first
            return
    s = &made.steps[made.count]
    made.count += 1
    s.kernel = made_by
    s.seen = seen
    s.clips = clips
    s.widens = widens
    for k in range(MOST_SLOTS):
        s.slot[k] = -1
    s.slot[slot] = first


cdef object add_check(Call call, Steps made, int place):
    """Look at the rows of all operands, as KL or entropy does, whose values go to a column that is made after it."""
    cdef Plan *plan = &call.plan
    cdef bint pairs = call.task != "sparse"
    if plan.pred_kind == LOGITS and (plan.true_kind == LOGITS or not pairs):
        return
    by = CHECKS[pairs]
    made_by = None
    if plan.tile.normalise:
        made_by = usual_kernel(by, plan.true_kind, plan.pred_kind, True, plan.temperature, plan.stored == FLOAT32)
    if made_by is None:
        step(made, kernel(CAREFUL, CAREFUL_PAIR if pairs else CAREFUL_STATISTICS), by.sees, -1, 0, False, False)
        return
    module, number = made_by
    step(made, kernel(<Module><int>module, number), by.sees, place, by.slot, False,
         plan.temperature != 1 and module in WIDEN)


# Steps never change, and stay once they are here: without a GIL threads at worst settle the same ones twice.
cdef dict settled = {}


cdef object find_steps(Call call):
    """The steps of a call, from those of an earlier call of the same form if there was one."""
    cdef Plan *plan = &call.plan
    cdef Steps kept
    cdef long form = (plan.true_kind + 4 * plan.pred_kind + 16 * plan.tile.normalise + 32 * (plan.eps > 0)
                      + 64 * (plan.tile.smoothing != 0) + 128 * (plan.terms != NULL)
                      + 256 * (plan.class_weight != NULL) + 512 * (plan.temperature != 1)
                      + 1024 * (plan.stored == FLOAT32))
    key = (call.task, call.columns, form, levels.active)
    kept = settled.get(key)
    if kept is None:
        kept = settled.setdefault(key, settle_steps(call))
    call.steps = kept
    plan.steps = kept.steps
    plan.step_count = kept.count


cdef Steps settle_steps(Call call):
    """Which kernel makes which column."""
    cdef Plan *plan = &call.plan
    cdef Steps made = Steps.__new__(Steps)
    cdef bint clips = plan.eps > 0, has_temperature = plan.temperature != 1, careful
    cdef bint options = (clips or plan.tile.smoothing != 0 or plan.terms != NULL
                         or (plan.class_weight != NULL and not plan.label_weighs))
    task = call.task
    wanted = {name: k for k, name in enumerate(call.columns)}
    pairs = task != "sparse"
    checks = [c for c in COLUMNS[task]
              if c.name in wanted and (c.sees in (BOTH, SWAPPED) or not pairs) and not c.unchecked]
    for column in COLUMNS[task]:
        if column.name not in wanted or (plan.label_weighs and column.name == "target_weight"):
            continue
        module, place = kernel_of(column, plan.true_kind, plan.pred_kind, plan.tile.normalise, plan.temperature,
                                  plan.stored == FLOAT32, options, clips)
        careful = (module, place) == column.careful
        if column.unchecked and not checks:
            add_check(call, made, wanted[column.name])
            checks = [column]
        sees, slot = column.sees, column.slot
        if sees == SWAPPED and module == LOGITS_DIVERGENCE:
            sees, slot = BOTH, REVERSE
        step(made, kernel(<Module><int>module, place), sees, wanted[column.name], slot,
             careful and column.options != "", has_temperature and module in WIDEN)
    return made


cpdef tuple kernel_of(column, int true_kind, int pred_kind, bint normalise, double temperature, bint single,
                      bint options, bint clips):
    """Which kernel makes a column from operands of these kinds, with these options: what is usual,
    or what is careful."""
    usual = usual_kernel(column, true_kind, pred_kind, normalise, temperature, single)
    if usual is None or (column.options == "all" and options) or (column.options == "eps" and clips):
        return column.careful
    return usual


cdef object usual_kernel(column, int true_kind, int pred_kind, bint normalise, double temperature, bint single):
    """What makes a column from operands of these kinds, or None."""
    cdef bint true_logs = true_kind != PROBS, pred_logs = pred_kind != PROBS
    cdef bint raw_true = not normalise and true_kind != LOGITS
    cdef bint raw_pred = not normalise and pred_kind != LOGITS
    cdef bint logs = pred_logs, raw = raw_pred, one_kind = True
    if column.sees == TRUE_AS_PRED:
        logs, raw = true_logs, raw_true
    elif column.sees != PRED_ONLY:
        raw = raw_true or raw_pred
        # a temperature is the logits', not the log-probabilities' beside them
        one_kind = true_logs == pred_logs and (true_kind == pred_kind or temperature == 1)
    if raw and (column.as_is == "all" or (column.as_is == "logs" and logs)):
        return None
    if one_kind:
        if logs and column.single and not single:
            return None
        return column.logs if logs else column.probs
    return column.probs_logs if pred_logs and not true_logs else None
