"""Losses of logits in torch's autograd: fastent's values; derivatives pass torch's checks."""

import itertools

import numpy as np
import pytest

import fastent as fe

torch = pytest.importorskip("torch")
compat = pytest.importorskip("fastent.compat.torch")

REDUCTIONS = ["none", "mean", "sum"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def logits(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def plainly(name, p, q, temperature, axis):
    """The divergence in torch's operations."""
    log_p, log_q = (torch.log_softmax(x / temperature, axis) for x in (p, q))
    if name == "kl_divergence":
        return (log_p.exp() * (log_p - log_q)).sum(axis)
    log_m = torch.logaddexp(log_p, log_q) - np.log(2)
    return sum((a.exp() * (a - log_m)).sum(axis) for a in (log_p, log_q)) / 2


def mean_of(rows, weight, reduction):
    rows = rows if weight is None else rows * weight
    if reduction == "none":
        return rows
    total = rows.sum()
    if reduction == "sum":
        return total
    return total / (rows.numel() if weight is None else weight.expand(rows.shape).sum())


PAIRS = ["kl_divergence", "js_divergence"]
SHAPES = [((3, 4), (3, 4)), ((4,), (3, 4)), ((2, 1, 4), (3, 4)), ((4,), (4,))]


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_both_operands(name, reduction, shapes):
    p, q = (logits(*shape) for shape in shapes)
    weight = torch.rand(torch.broadcast_shapes(*(s[:-1] for s in shapes)), dtype=torch.float64)
    for temperature, given in itertools.product((1.0, 2.5), (None, weight)):
        options = {"temperature": temperature, "sample_weight": given, "reduction": reduction}

        def ours(p, q, options=options):
            return getattr(compat, name)(p, q, **options)

        rows = plainly(name, p, q, temperature, -1)
        torch.testing.assert_close(ours(p, q), mean_of(rows, given, reduction))
        assert torch.autograd.gradcheck(ours, (p, q))
        assert torch.autograd.gradcheck(lambda q: ours(p.detach(), q), (q,))


@pytest.mark.parametrize("name", PAIRS)
def test_axes_and_operands_that_hold_other_kinds(name):
    ours = getattr(compat, name)
    p, q = logits(4, 3, 2), logits(4, 3, 2)
    for axis, reduction in itertools.product((0, 1, -1, -3), REDUCTIONS):
        found = ours(p, q, axis=axis, reduction=reduction)
        wanted = mean_of(plainly(name, p, q, 1.0, axis), None, reduction)
        torch.testing.assert_close(found, wanted)
        upstream = torch.randn_like(wanted)
        mine = torch.autograd.grad(found, (p, q), upstream)
        torch.testing.assert_close(mine, torch.autograd.grad(wanted, (p, q), upstream))
    probs = torch.softmax(p, -1).detach()
    for kind, first in (("probs", probs), ("logprobs", probs.log())):
        found = ours(first, q, kind=(kind, "logits"))
        torch.testing.assert_close(found, ours(p, q))
        (mine,) = torch.autograd.grad(found, q)
        torch.testing.assert_close(mine, torch.autograd.grad(ours(p, q), q)[0])
    with pytest.raises(ValueError, match="p: requires a gradient, which flows to logits only"):
        ours(probs.requires_grad_(), q, kind=("probs", "logits"))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_entropy(reduction):
    z, weight = logits(3, 4, 2), torch.rand(3, 2, dtype=torch.float64)

    def ours(z):
        return compat.entropy(z, temperature=0.5, sample_weight=weight, reduction=reduction, axis=1)

    log = torch.log_softmax(z / 0.5, 1)
    torch.testing.assert_close(ours(z), mean_of(-(log.exp() * log).sum(1), weight, reduction))
    assert torch.autograd.gradcheck(ours, (z,))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("soft", [False, True])
def test_focal_cross_entropy(reduction, soft):
    z = logits(5, 4, 2)
    labels = torch.randint(0, 4, (5, 2))
    weight, classes = torch.rand(5, 2, dtype=torch.float64), torch.rand(4, dtype=torch.float64)
    options = {"gamma": 1.5, "temperature": 2.0, "sample_weight": weight, "axis": 1}
    log = torch.log_softmax(z / 2.0, 1)
    terms = -((1 - log.exp()) ** 1.5) * log
    if soft:
        target = torch.rand(5, 4, 2, dtype=torch.float64).softmax(1)
        rows = (target * terms).sum(1)
    else:
        target = labels.clone()
        target[0, 0] = -100
        options |= {"class_weight": classes, "ignore_index": -100}
        rows = terms.gather(1, labels[:, None])[:, 0]
        weight = torch.where(target < 0, 0.0, weight * classes[labels])

    def ours(z):
        return compat.focal_cross_entropy(target, z, reduction=reduction, **options)

    torch.testing.assert_close(ours(z), mean_of(rows, weight, reduction))
    assert torch.autograd.gradcheck(ours, (z,))


CALLS = {
    "kl_divergence": lambda z: compat.kl_divergence(z.flip(0), z),
    "js_divergence": lambda z: compat.js_divergence(z.flip(0), z),
    "entropy": lambda z: compat.entropy(z),
    "focal_cross_entropy": lambda z: compat.focal_cross_entropy(torch.tensor([0, 2, 1]), z),
}


@pytest.mark.parametrize("name", CALLS)
def test_second_derivatives_are_refused_and_narrow_logits_get_narrow_gradients(name):
    z = logits(3, 4)
    (slope,) = torch.autograd.grad(CALLS[name](z), z, create_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated once only"):
        slope.sum().backward()
    with torch.no_grad():
        assert not CALLS[name](z).requires_grad
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        narrow = z.detach().to(dtype).requires_grad_()
        value = CALLS[name](narrow)
        value.backward()
        wide = narrow.detach().double().requires_grad_()
        wanted = CALLS[name](wide)
        wanted.backward()
        assert (value.dtype, narrow.grad.dtype) == (torch.float64, dtype)
        torch.testing.assert_close(value, wanted, rtol=2e-6, atol=1e-9)
        torch.testing.assert_close(narrow.grad, wide.grad.to(dtype), rtol=1e-2, atol=1e-6)


def test_infinite_logits_and_refusals_are_those_of_fastent():
    q = torch.tensor([[0.5, -float("inf"), 3.0]], dtype=torch.float64, requires_grad=True)
    p = torch.tensor([[0.25, 0.0, 0.75]], dtype=torch.float64)
    compat.kl_divergence(p, q, kind=("probs", "logits")).backward()
    assert q.grad[0, 1] == 0
    assert q.grad.isfinite().all()
    wanted = fe.kl_divergence_gradient(p.numpy(), q.detach().numpy(), kind=("probs", "logits"))
    assert (q.grad.numpy() == wanted).all()
    with pytest.raises(ValueError, match="is not a valid value for reduction"):
        compat.entropy(q, reduction="median")
    weight = torch.ones(1, requires_grad=True)
    with pytest.raises(ValueError, match="sample_weight: expected a tensor without gradient"):
        compat.entropy(q, sample_weight=weight)
    with pytest.raises(ValueError, match=r"labels: expected"):
        compat.focal_cross_entropy(torch.tensor([5]), q)
    with pytest.raises(ValueError, match="target: expected a tensor without gradient"):
        compat.focal_cross_entropy(p.requires_grad_(), q)
    empty = torch.zeros(0, 3, dtype=torch.float64, requires_grad=True)
    compat.entropy(empty, reduction="sum").backward()
    assert empty.grad.shape == (0, 3)
