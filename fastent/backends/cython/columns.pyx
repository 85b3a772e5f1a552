"""The columns of every task, and which kernel makes which."""

from libc.string cimport memcpy

from fastent.backends.cython import levels
from fastent.backends.cython.call cimport Call
from fastent.backends.cython.kernels.interface cimport LOGITS, PROBS, Kernel, kernel
from fastent.backends.cython.levels cimport (
    BINARY_CROSS_ENTROPY, CAREFUL, FOCAL_CROSS_ENTROPY, LOGITS_CROSS_ENTROPY, LOGITS_DIVERGENCE,
    Module, POWER_DIVERGENCE, PROBS_CROSS_ENTROPY, PROBS_DIVERGENCE,
)
from fastent.backends.cython.tiles.loop cimport (
    BOTH, MOST_SLOTS, MOST_STEPS, PRED_ONLY, SWAPPED, TRUE_AS_PRED, Plan, Step,
)

COLUMNS = {
    "sparse": ("cross_entropy", "accuracy", "rank", "brier", "entropy", "confidence", "target_weight"),
    "categorical": ("cross_entropy", "kl_divergence", "entropy", "target_entropy", "brier", "accuracy",
                    "target_weight"),
    "binary": ("cross_entropy", "accuracy", "brier", "entropy", "probability"),
    "divergence": ("kl_divergence", "reverse_kl", "js_divergence", "cross_entropy", "entropy_p",
                   "entropy_q", "total_variation", "hellinger", "top1_agreement"),
    "entropy": ("entropy",),
}
# what `base` applies to
IN_NATS = frozenset(("cross_entropy", "kl_divergence", "reverse_kl", "js_divergence", "entropy",
                     "target_entropy", "entropy_p", "entropy_q", "renyi_divergence", "jeffreys_divergence",
                     "focal_cross_entropy"))
# the ready-made ones beside them: a kernel each, of the order that the call has
READY_MADE = {
    "alpha_divergence": (POWER_DIVERGENCE, 0),
    "tsallis_divergence": (POWER_DIVERGENCE, 1),
    "renyi_divergence": (POWER_DIVERGENCE, 2),
    "chi2_divergence": (POWER_DIVERGENCE, 3),
    "jeffreys_divergence": (POWER_DIVERGENCE, 4),
    "focal_cross_entropy": (FOCAL_CROSS_ENTROPY, 0),
}


cdef inline void step(Plan *plan, Kernel made_by, int seen, int first, int slot, bint clips, bint widens):
    """Add a kernel whose output number `slot` goes to column `first`; join the step before if it is
    the same kernel on the same operands."""
    cdef Step *s
    cdef int k
    if first < 0:
        return
    for k in range(plan.step_count):
        s = &plan.steps[k]
        if s.kernel == made_by and s.seen == seen and s.clips == clips and s.slot[slot] < 0:
            s.slot[slot] = first
            return
    s = &plan.steps[plan.step_count]
    plan.step_count += 1
    s.kernel = made_by
    s.seen = seen
    s.clips = clips
    s.widens = widens
    for k in range(MOST_SLOTS):
        s.slot[k] = -1
    s.slot[slot] = first


cdef class Steps:
    """Steps settled once for calls of one form; small calls live on it (0.7 µs of 3)."""

    cdef Step steps[MOST_STEPS]
    cdef int count, loss_column, target_weight_column
    cdef bint label_weighs


# Steps never change once they are here: without a GIL threads at worst settle the same ones twice.
cdef dict settled = {}


cdef object find_steps(Call call):
    """The steps of a call, from those of an earlier call of the same form if there was one."""
    cdef Plan *plan = &call.plan
    cdef Steps kept
    cdef long form = (plan.true_kind + 4 * plan.pred_kind + 16 * plan.normalise + 32 * (plan.eps > 0)
                      + 64 * (plan.smoothing != 0) + 128 * (plan.terms != NULL)
                      + 256 * (plan.class_weight != NULL) + 512 * (plan.temperature != 1))
    key = (call.task, call.columns, form, levels.active)
    kept = settled.get(key)
    if kept is None:
        settle_steps(call)
        kept = Steps.__new__(Steps)
        memcpy(kept.steps, plan.steps, sizeof(plan.steps))
        kept.count = plan.step_count
        kept.loss_column = plan.loss_column
        kept.target_weight_column = plan.target_weight_column
        kept.label_weighs = plan.label_weighs
        settled[key] = kept
        return
    memcpy(plan.steps, kept.steps, kept.count * sizeof(Step))
    plan.step_count = kept.count
    plan.loss_column = kept.loss_column
    plan.target_weight_column = kept.target_weight_column
    plan.label_weighs = kept.label_weighs


cdef object settle_steps(Call call):
    """Which kernel makes which column."""
    cdef Plan *plan = &call.plan
    cdef bint raw = not plan.normalise, clips = plan.eps > 0
    cdef bint true_logs = plan.true_kind != PROBS, pred_logs = plan.pred_kind != PROBS
    cdef bint raw_true = raw and plan.true_kind != LOGITS, raw_pred = raw and plan.pred_kind != LOGITS
    cdef bint hot = plan.temperature != 1   # float rows with a temperature are done in double
    cdef bint options = clips or plan.smoothing != 0 or plan.terms != NULL
    cdef bint same = true_logs == pred_logs and (plan.true_kind == plan.pred_kind or not hot)
    cdef int slot, k
    task = call.task
    plan.step_count = 0
    plan.loss_column = plan.target_weight_column = -1
    plan.label_weighs = False
    column = {name: k for k, name in enumerate(call.columns)}
    find = column.get
    if task == "entropy":
        entropy_step(plan, PRED_ONLY, plan.pred_kind, raw_pred, find("entropy", -1), hot)
        return
    if task == "binary":
        for slot, name in enumerate(COLUMNS["binary"]):
            step(plan, kernel(BINARY_CROSS_ENTROPY, 0), BOTH, find(name, -1), slot, True, hot)
        return
    if task == "sparse":
        plan.label_weighs = plan.class_weight != NULL and not options and not raw_pred
        plan.loss_column = find("cross_entropy", -1)
        plan.target_weight_column = find("target_weight", -1)
        if options or raw_pred:
            step(plan, kernel(CAREFUL, 0), PRED_ONLY, plan.loss_column, 0, True, False)
            column.pop("cross_entropy", None)
        if not plan.label_weighs:
            step(plan, kernel(CAREFUL, 0), PRED_ONLY, plan.target_weight_column, 1, True, False)
        for slot, name in enumerate(("cross_entropy", "accuracy", "rank", "brier", "entropy", "confidence")):
            k = find(name, -1)
            if name == "entropy":
                entropy_step(plan, PRED_ONLY, plan.pred_kind, raw_pred, k, hot)
            elif raw_pred and pred_logs and name in ("brier", "confidence"):
                step(plan, kernel(CAREFUL, 3), PRED_ONLY, k, 0 if name == "brier" else 1, False, False)
            elif pred_logs:
                step(plan, kernel(LOGITS_CROSS_ENTROPY, 0), PRED_ONLY, k, slot, False, hot)
            else:
                step(plan, kernel(PROBS_CROSS_ENTROPY, 0), PRED_ONLY, k, slot, False, False)
        return
    plan.target_weight_column = find("target_weight", -1)
    for name, (k, slot) in READY_MADE.items():
        step(plan, kernel(<Module>k, slot), BOTH, find(name, -1), 0, False, False)
    k = find("cross_entropy", -1)
    step(plan, kernel(CAREFUL, 0), BOTH, plan.target_weight_column, 1, True, False)
    if options or raw or true_logs or plan.class_weight != NULL:
        step(plan, kernel(CAREFUL, 0), BOTH, k, 0, True, False)
    elif pred_logs:
        step(plan, kernel(LOGITS_CROSS_ENTROPY, 0), BOTH, k, 0, False, hot)
    else:
        step(plan, kernel(PROBS_CROSS_ENTROPY, 2), BOTH, k, 0, False, False)
    entropy_step(plan, PRED_ONLY, plan.pred_kind, raw_pred, find("entropy", find("entropy_q", -1)), hot)
    entropy_step(plan, TRUE_AS_PRED, plan.true_kind, raw_true,
                 find("target_entropy", find("entropy_p", -1)), hot)
    for slot, name, seen in ((0, "kl_divergence", BOTH), (0, "reverse_kl", SWAPPED), (1, "js_divergence", BOTH)):
        k = find(name, -1)
        if not same or (clips and seen == BOTH) or (raw and true_logs and (raw_true or raw_pred)):
            step(plan, kernel(CAREFUL, 1), seen, k, slot, seen == BOTH, False)
        elif true_logs:
            step(plan, kernel(LOGITS_DIVERGENCE, slot), seen, k, 0, False, hot)
        else:
            step(plan, kernel(PROBS_DIVERGENCE, slot), seen, k, 0, False, False)
    for slot, name in ((2, "total_variation"), (3, "hellinger"), (4, "top1_agreement"), (4, "accuracy"), (5, "brier")):
        step(plan, kernel(CAREFUL, 1), BOTH, find(name, -1), slot, False, False)


cdef void entropy_step(Plan *plan, int seen, int kind, bint raw, int column, bint hot):
    if raw:
        step(plan, kernel(CAREFUL, 2), seen, column, 0, False, False)
    elif kind == PROBS:
        step(plan, kernel(PROBS_CROSS_ENTROPY, 1), seen, column, 0, False, False)
    else:
        step(plan, kernel(LOGITS_CROSS_ENTROPY, 0), seen, column, 4, False, hot)
