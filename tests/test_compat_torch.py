"""torch's losses from fastent: values and gradients as torch gives them in float64."""

import itertools

import pytest

torch = pytest.importorskip("torch")
peer = torch.nn.functional
compat = pytest.importorskip("fastent.compat.torch")

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
REDUCTIONS = ["none", "mean", "sum"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def compare(name, operands, **options):
    """The value, and the gradient of every floating operand but the weights, against float64."""
    ours = [x.clone().requires_grad_(x.is_floating_point()) for x in operands]
    wide = [
        x.to(torch.float64, copy=True).requires_grad_() if x.is_floating_point() else x.clone()
        for x in operands
    ]
    doubled = {k: v.double() if torch.is_tensor(v) else v for k, v in options.items()}
    found, wanted = getattr(compat, name)(*ours, **options), getattr(peer, name)(*wide, **doubled)
    narrow = any(x.dtype not in (torch.float64, torch.int64) for x in operands)
    assert found.dtype == torch.float64
    assert found.requires_grad
    torch.testing.assert_close(
        found, wanted, rtol=2e-6 if narrow else 1e-12, atol=1e-6 if narrow else 1e-14
    )
    upstream = torch.rand_like(wanted)
    found.backward(upstream)
    wanted.backward(upstream)
    for mine, theirs in zip(ours, wide, strict=True):
        if theirs.is_floating_point():
            assert mine.grad.dtype == mine.dtype
            torch.testing.assert_close(mine.grad, theirs.grad.to(mine.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_of_labels(dtype, reduction, smoothing, weighted):
    weight = torch.rand(6).to(dtype) if weighted else None
    options = {"reduction": reduction, "label_smoothing": smoothing, "weight": weight}
    for shape in [(9, 6), (3, 6, 4, 2), (6,)]:
        logits = (4 * torch.randn(shape)).to(dtype)
        labels = torch.randint(6, shape[:1] + shape[2:] if len(shape) > 1 else ())
        compare("cross_entropy", (logits, labels), **options)
    labels = torch.tensor([1, -100, 2, 0, -100])
    compare("cross_entropy", (torch.randn(5, 6).to(dtype), labels), **options)
    labels = torch.tensor([1, 3, 2, 0, 3])
    compare("cross_entropy", (torch.randn(5, 6).to(dtype), labels), ignore_index=3, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_probabilities(dtype, reduction, smoothing):
    for shape, weight in itertools.product([(9, 6), (3, 6, 4), (6,)], [None, torch.rand(6)]):
        logits = (4 * torch.randn(shape)).to(dtype)
        target = torch.rand(shape).to(dtype)
        weight = None if weight is None else weight.to(dtype)
        options = {"reduction": reduction, "label_smoothing": smoothing, "weight": weight}
        compare("cross_entropy", (logits, target), **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_nll_loss(dtype, reduction):
    for weight in (None, torch.rand(6).to(dtype)):
        logs = torch.randn(3, 6, 4).log_softmax(1).to(dtype)
        labels = torch.randint(6, (3, 4))
        labels[1] = -100
        compare("nll_loss", (logs, labels), reduction=reduction, weight=weight)
    compare("nll_loss", (torch.randn(5, 6).to(dtype), torch.arange(5)), reduction=reduction)


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")  # torch's own advice
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
@pytest.mark.parametrize("log_target", [False, True])
def test_kl_div(dtype, reduction, log_target):
    for shapes in [((9, 6), (9, 6)), ((3, 4, 6), (3, 4, 6)), ((9, 6), (6,)), ((6,), (6,))]:
        logs, target = (torch.randn(s).log_softmax(-1).to(dtype) for s in shapes)
        target = target if log_target else target.exp()
        compare("kl_div", (logs, target), reduction=reduction, log_target=log_target)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_cross_entropy(dtype, reduction, weighted):
    weight = torch.rand(5).to(dtype) if weighted else None
    q, target = torch.rand(2, 7, 5).to(dtype)
    target[0] = 0.0
    target[1] = 1.0
    compare("binary_cross_entropy", (q, target), reduction=reduction, weight=weight)
    logits = (9 * torch.randn(7, 5)).to(dtype)
    for pos_weight in (None, (3 * torch.rand(5)).to(dtype)):
        options = {"reduction": reduction, "weight": weight, "pos_weight": pos_weight}
        compare("binary_cross_entropy_with_logits", (logits, target), **options)
    compare("binary_cross_entropy_with_logits", (logits, 2 * target), reduction=reduction)


def test_the_logarithm_of_a_probability_stops_at_100():
    q = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 1e-44], dtype=torch.float64)
    target = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.5, 1.0], dtype=torch.float64)
    found = compat.binary_cross_entropy(q, target, reduction="none")
    torch.testing.assert_close(found, peer.binary_cross_entropy(q, target, reduction="none"))


def test_classes_and_logits_at_infinity():
    inf = float("inf")
    logits = torch.tensor([[0.0, -inf, 0.0]], dtype=torch.float64)
    target = torch.tensor([[0.5, 0.0, 0.5]], dtype=torch.float64)
    log2 = torch.tensor(2.0).double().log()
    assert peer.cross_entropy(logits, target).isnan()
    torch.testing.assert_close(compat.cross_entropy(logits, target), log2)
    certain = torch.tensor([inf, -inf], dtype=torch.float64)
    hard = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert compat.binary_cross_entropy_with_logits(certain, hard).item() == 0.0
    logs = torch.tensor([[0.0, -inf]], dtype=torch.float64)
    assert compat.kl_div(logs, logs.exp(), reduction="sum").item() == 0.0
    assert compat.kl_div(logs, logs, log_target=True, reduction="none").tolist() == [[0.0, 0.0]]


def test_gradients_keep_their_digits():
    """Where torch's own backward pass gives nan, or a confident class no gradient at all."""
    inf = float("inf")
    logits = torch.tensor([[40.0, 0.0, -inf], [inf, 0.0, 0.0]], dtype=torch.float64)
    soft = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    tiny = 4.248354255291589e-18
    for target in (torch.tensor([0, 0]), soft):
        x = logits.clone().requires_grad_()
        compat.cross_entropy(x, target, reduction="sum").backward()
        wanted = torch.tensor([[-tiny, tiny, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
        torch.testing.assert_close(x.grad, wanted, rtol=1e-14, atol=0)
    x = torch.tensor([40.0, inf, -inf], dtype=torch.float64, requires_grad=True)
    hard = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    compat.binary_cross_entropy_with_logits(x, hard, reduction="sum").backward()
    wanted = torch.tensor([-tiny, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(x.grad, wanted, rtol=1e-14, atol=0)
    many = torch.zeros(70_000, 2, dtype=torch.float16, requires_grad=True)  # mean: 1/70000 of each
    compat.cross_entropy(many, torch.zeros(70_000, dtype=torch.long)).backward()
    assert many.grad[0].tolist() == [-float(torch.tensor(0.5 / 70_000).half()),
                                     float(torch.tensor(0.5 / 70_000).half())]  # fmt: skip


def test_what_has_no_second_derivative_says_so():
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(
        compat.cross_entropy(x, torch.tensor([0, 1, 2])), x, create_graph=True
    )
    with pytest.raises(RuntimeError, match="can be differentiated once only"):
        slope.sum().backward()
    with torch.no_grad():
        assert not compat.cross_entropy(x, torch.tensor([0, 1, 2])).requires_grad


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
def test_no_elements():
    for name, target in [("kl_div", torch.rand(2, 5, 0)), ("cross_entropy", torch.rand(2, 5, 0)),
                         ("binary_cross_entropy", torch.rand(2, 5, 0)),
                         ("cross_entropy", torch.zeros(2, 0, dtype=torch.long))]:  # fmt: skip
        for reduction in REDUCTIONS:
            given = torch.rand(2, 5, 0), target
            found = getattr(compat, name)(*given, reduction=reduction)
            wanted = getattr(peer, name)(*given, reduction=reduction)
            assert found.shape == wanted.shape
            torch.testing.assert_close(found, wanted.double(), equal_nan=True)


def test_reductions_and_legacy_arguments():
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    total = compat.cross_entropy(logits, labels, reduction="sum")
    with pytest.warns(UserWarning, match="size_average and reduce args"):
        assert compat.cross_entropy(logits, labels, size_average=False) == total
    with pytest.raises(ValueError, match="not a valid value for reduction"):
        compat.cross_entropy(logits, labels, reduction="median")
    ignored = torch.full((4,), -100)
    logits.requires_grad_()
    nothing = compat.cross_entropy(logits, ignored)
    nothing.backward()
    assert nothing.isnan()
    assert not logits.grad.any()
    logits = logits.detach()
    with pytest.raises(ValueError, match="labels: expected classes"):
        compat.cross_entropy(logits, labels + 1)
    assert not compat.cross_entropy(logits, labels).requires_grad


def test_inputs_stay_as_they_are():
    logits = torch.randn(6, 5, dtype=torch.bfloat16).t()
    before = logits.clone()
    compat.cross_entropy(logits, torch.tensor([0, 1, 2, 3, 4]))
    assert torch.equal(logits, before)


def test_a_weight_that_requires_a_gradient_is_refused_as_torch_does():
    q, target, weight = torch.rand(3, 5, dtype=torch.float64)
    weight.requires_grad_()
    for found in (
        compat.binary_cross_entropy_with_logits(q, target, weight),
        compat.nll_loss(q[None].log(), torch.tensor([2]), weight),
    ):
        assert found.requires_grad
        with pytest.raises(RuntimeError, match=r"not differentiable|not implemented"):
            found.backward()


def elsewhere(x):
    """Equal tensors in other places: transposed, strided, inside of a larger one, repeated."""
    yield x.T.contiguous().T if x.ndim == 2 else x.flip(0).contiguous().flip(0)
    wide = torch.zeros(*[3 * n for n in x.shape], dtype=x.dtype)
    inner = wide[tuple(slice(1, None, 3) for _ in x.shape)]
    inner.copy_(x)
    yield inner
    padded = torch.cat([x[:1], x, x[:1]]) if x.ndim else x
    yield padded[1:-1] if x.ndim else padded


CALLS = {
    "cross_entropy": lambda logits, q, t, y, w: compat.cross_entropy(logits, y, weight=w),
    "cross_entropy, soft": lambda logits, q, t, y, w: compat.cross_entropy(logits, t, weight=w),
    "nll_loss": lambda logits, q, t, y, w: compat.nll_loss(logits, y, w),
    "kl_div": lambda logits, q, t, y, w: compat.kl_div(logits, t, reduction="sum"),
    "binary_cross_entropy": lambda logits, q, t, y, w: compat.binary_cross_entropy(q, t, w),
    "with_logits": lambda logits, q, t, y, w: compat.binary_cross_entropy_with_logits(
        logits, t, t, pos_weight=w
    ),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CALLS)
def test_any_memory(name, dtype):
    logits = torch.randn(6, 4).log_softmax(1).to(dtype)
    q, t = torch.rand(6, 4).to(dtype), torch.rand(6, 4).to(dtype)
    y, w = torch.tensor([0, 1, -100, 3, 2, 1]), torch.rand(4).to(dtype)
    operands = [logits, q, t, y, w]

    def both(*operands):
        first = [x.detach().requires_grad_(i < 2) for i, x in enumerate(operands)]
        value = CALLS[name](*first)
        value.backward()
        found = next(x.grad for x in first if x.grad is not None)
        return value.detach().numpy().tobytes(), found.double().numpy().tobytes()

    want = both(*operands)
    for i, x in enumerate(operands):
        for place in elsewhere(x):
            assert torch.equal(place, x)
            assert both(*operands[:i], place, *operands[i + 1 :]) == want


def test_gradients_of_transposed_targets():
    logits = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[0, 1], [3, 0], [-100, 2]]).T.contiguous().T
    assert not target.is_contiguous()
    assert torch.autograd.gradcheck(lambda x: compat.cross_entropy(x, target), logits)


@pytest.mark.parametrize("shape", [(), (4,), (2, 2), (4, 1)])
@pytest.mark.parametrize("name", ["weight", "pos_weight"])
def test_weights_broadcast_to_the_input_and_never_beyond(name, shape):
    x, t = torch.randn(shape, dtype=torch.float64), torch.rand(shape, dtype=torch.float64)
    sizes = (1, 2, 4)
    shapes = [(), *((n,) for n in sizes), *itertools.product(sizes, sizes), (1, 1, 1)]
    for given in shapes:
        w = torch.rand(given, dtype=torch.float64)
        calls = [("binary_cross_entropy_with_logits", (x, t), {name: w})]
        if name == "weight":
            calls.append(("binary_cross_entropy", (x.sigmoid(), t), {name: w}))
        for function, operands, options in calls:
            for reduction in REDUCTIONS:
                options["reduction"] = reduction
                try:
                    wanted = getattr(peer, function)(*operands, **options)
                except RuntimeError:
                    with pytest.raises(RuntimeError):
                        getattr(compat, function)(*operands, **options)
                else:
                    found = getattr(compat, function)(*operands, **options)
                    torch.testing.assert_close(found, wanted, rtol=1e-13, atol=0)


@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 3)])
def test_kl_div_of_any_shape(shape, reduction):
    logs, p = torch.rand(shape).double().log(), torch.rand(shape).double()
    wanted = peer.kl_div(logs, p, reduction=reduction)
    found = compat.kl_div(logs, p, reduction=reduction)
    torch.testing.assert_close(found, wanted, rtol=1e-13, atol=1e-16, equal_nan=True)


def test_targets_do_not_broadcast():
    x = torch.zeros(3, 4)
    for call in (compat.cross_entropy, compat.nll_loss):
        with pytest.raises(ValueError, match="target: expected shape"):
            call(x, torch.zeros(1, dtype=torch.int64))
    for call in (compat.binary_cross_entropy, compat.binary_cross_entropy_with_logits):
        with pytest.raises(ValueError, match="target: expected the shape"):
            call(x, torch.zeros(4))


@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize(
    "shapes", [((5, 1, 4), (3, 4)), ((4,), (3, 4)), ((3, 1), (3, 4)), ((), (4,))]
)
@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
def test_kl_div_broadcasts(shapes, reduction):
    p, logs = torch.rand(shapes[0]).double() + 0.1, torch.rand(shapes[1]).double().log()
    compare("kl_div", (logs, p), reduction=reduction)
    compare("kl_div", (p.log(), logs.exp()), reduction=reduction)
