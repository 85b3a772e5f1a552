"""Whatever is given where something else belongs: a value without a warning, or a ValueError or
TypeError of one short line that begins with the argument's name."""

import datetime
import decimal
import inspect

import numpy as np
import pytest

import fastent as fe

ODD = [
    None, True, 0, -1, 10**30, -(10**400), 2**63, 2**64 - 1, 1.0, 1.5, np.nan, np.inf, 1j, "a", "",
    "probs", b"a", b"\xff", b"1.5", [], {}, set(), [1, 2, 3], ["a", "b", "c"], [[1, 2], [3]],
    object(), int, len, np.array(1), np.array([1.0]), np.array([1, 2, 3]), np.zeros((0, 4)),
    np.array("x"), np.array([b"a", b"\xff", b"c"]), np.array([None, 1, 2], object),
    np.array([1j, 2, 3]), np.array(["2020-01-01"] * 3, "M8[D]"),
    np.ma.array([1, 2, 3], mask=[1, 0, 0]),
    decimal.Decimal("sNaN"), datetime.date(2020, 1, 1), np.zeros((1,) * 40),
    np.zeros(3, [("a", float)]), np.array([2**63, 1, 2], np.uint64), [2**64] * 3, [np.nan] * 3,
    [1e308] * 3, memoryview(b"abc"), "x" * 1000,
]  # fmt: skip
P, Y = np.full((3, 4), 0.25), np.array([0, 1, 2])
T, B = np.array([0.0, 1, 0.5]), np.array([0.2, 0.5, 0.9])
FUNCTIONS = {
    fe.sparse_cross_entropy: (Y, P),
    fe.categorical_cross_entropy: (P, P),
    fe.binary_cross_entropy: (T, B),
    fe.kl_divergence: (P, P),
    fe.entropy: (P,),
    fe.focal_cross_entropy: (Y, P),
    fe.binary_focal_cross_entropy: (T, B),
    fe.cross_entropy_gradient: (Y, P),
    fe.binary_cross_entropy_gradient: (T, B),
}
DIVERGENCE_KEYWORDS = ("kind", "row_sums", "temperature", "sample_weight", "reduction", "base",
                       "axis", "out", "num_threads")  # fmt: skip


def polite(call, said):
    for given in ODD:
        try:
            call(given)
        except (ValueError, TypeError) as error:
            text = str(error)
            assert type(error) in (ValueError, TypeError), (given, text)
            assert "\n" not in text, (given, text)
            assert len(text) < 400, (given, text)
            assert text.startswith(said), (given, text)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_keywords_of_functions(function):
    operands = FUNCTIONS[function]
    known = inspect.signature(function).parameters.values()
    for parameter in known:
        if parameter.kind == parameter.KEYWORD_ONLY:
            # An axis of another length, and what is no kind of weight, are seen by the operands.
            operand = ("labels", "target", "p", "pred", "target_or_labels", "logits")
            others = tuple(f"{name}: expected" for name in operand)
            said = (parameter.name, others) if parameter.name == "axis" else (parameter.name,)
            polite(
                lambda given, name=parameter.name: function(*operands, **{name: given}),
                tuple(np.hstack(said).tolist()),
            )


@pytest.mark.parametrize("name", DIVERGENCE_KEYWORDS)
def test_keywords_of_divergences(name):
    said = (name, "p: expected") if name == "axis" else name
    polite(lambda given: fe.total_variation(P, P, **{name: given}), said)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_operands(function):
    operands = list(FUNCTIONS[function])
    names = ("labels", "target", "pred", "p", "q", "logits", "target_or_labels", "axis")
    for i in range(len(operands)):

        def call(given, i=i):
            return function(*operands[:i], given, *operands[i + 1 :])

        polite(call, tuple(f"{name}: expected" for name in names))


def test_the_accumulator():
    known = list(inspect.signature(fe.Accumulator.__init__).parameters)[2:]
    others = ("labels: expected", "pred: expected")
    for name in known:

        def build(given, name=name):
            fe.Accumulator("accuracy", **{name: given}).update(Y, P).compute()

        polite(build, (name, *others) if name == "axis" else name)
    for name in ("sample_weight", "groups", "clusters"):

        def update(given, name=name):
            fe.Accumulator("accuracy").update(Y, P, **{name: given}).compute()

        polite(update, name)
    for name in ("set_backend", "set_num_threads"):
        try:
            polite(getattr(fe, name), name.removeprefix("set_"))
        finally:
            getattr(fe, name)(None)
