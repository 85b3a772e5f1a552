"""Arithmetic on LLVM vectors (or single numbers) in the notation of Python.

A formula is a plain function of Numbers: called once while a kernel is compiled, it leaves its
instructions behind, for float32 or float64 and for any count of lanes. Numba never sees it, which
saves its type inference (most of the time to a first result), and LLVM need not find out whether a
loop may be vectorised. Nothing is reordered or contracted: what is written is what is computed.
"""

from llvmlite import binding, ir
from numba.core import cgutils

SINGLE, DOUBLE = ir.FloatType(), ir.DoubleType()


def _fma_in_hardware():
    arm = binding.get_process_triple().startswith(("aarch64", "arm64"))
    return arm or bool(binding.get_host_cpu_features().get("fma"))


HAS_FMA = _fma_in_hardware()


def lanes_of(kind, count):
    """The type of `count` lanes; a single number is no vector."""
    return ir.VectorType(kind, count) if count > 1 else kind


class Lanes:
    """What the three kinds of value share."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    @property
    def count(self):
        kind = self.value.type
        return kind.count if isinstance(kind, ir.VectorType) else 1

    @property
    def element(self):
        kind = self.value.type
        return kind.element if isinstance(kind, ir.VectorType) else kind

    def lift(self, other):
        """Another value, or a Python number, as an LLVM value of this type."""
        if isinstance(other, Lanes):
            return other.value
        kind = self.value.type
        return ir.Constant(kind, [other] * self.count if self.count > 1 else other)

    def _new(self, value):
        return type(self)(self.builder, value)

    def cast(self, operation, element, kind):
        """A conversion instruction to another type of element."""
        target = lanes_of(element, self.count)
        return kind(self.builder, getattr(self.builder, operation)(self.value, target))


class Mask(Lanes):
    """True or false in each lane."""

    def __and__(self, other):
        return self._new(self.builder.and_(self.value, other.value))

    def __or__(self, other):
        return self._new(self.builder.or_(self.value, other.value))

    def __invert__(self):
        return self._new(self.builder.not_(self.value))


class Bits(Lanes):
    """Integers as wide as the floats they come from."""

    def __add__(self, other):
        return self._new(self.builder.add(self.value, self.lift(other)))

    def __sub__(self, other):
        return self._new(self.builder.sub(self.value, self.lift(other)))

    def __and__(self, other):
        return self._new(self.builder.and_(self.value, self.lift(other)))

    def __or__(self, other):
        return self._new(self.builder.or_(self.value, self.lift(other)))

    def __xor__(self, other):
        return self._new(self.builder.xor(self.value, self.lift(other)))

    def __invert__(self):
        return self._new(self.builder.not_(self.value))

    def __rsub__(self, other):
        return self._new(self.builder.sub(self.lift(other), self.value))

    def __lshift__(self, count):
        return self._new(self.builder.shl(self.value, self.lift(count)))

    def __rshift__(self, count):
        return self._new(self.builder.ashr(self.value, self.lift(count)))

    def logical_shift(self, count):
        return self._new(self.builder.lshr(self.value, self.lift(count)))

    def __lt__(self, other):
        return Mask(self.builder, self.builder.icmp_signed("<", self.value, self.lift(other)))

    def least(self, other):
        """The lesser of signed integers: an instruction, where floats take two."""
        return self._new(self.builder.select((self < other).value, self.value, other.value))

    def most(self, other):
        return self._new(self.builder.select((self < other).value, other.value, self.value))

    def as_number(self):
        """The floats with these bits."""
        return self.cast("bitcast", SINGLE if self.element.width == 32 else DOUBLE, Number)

    def converted(self):
        """The integers as floats."""
        return self.cast("sitofp", SINGLE if self.element.width == 32 else DOUBLE, Number)


class Number(Lanes):
    """float32 or float64 in each lane."""

    @property
    def single(self):
        return self.element == SINGLE

    def __add__(self, other):
        return self._new(self.builder.fadd(self.value, self.lift(other)))

    __radd__ = __add__

    def __sub__(self, other):
        return self._new(self.builder.fsub(self.value, self.lift(other)))

    def __rsub__(self, other):
        return self._new(self.builder.fsub(self.lift(other), self.value))

    def __mul__(self, other):
        return self._new(self.builder.fmul(self.value, self.lift(other)))

    __rmul__ = __mul__

    def __truediv__(self, other):
        return self._new(self.builder.fdiv(self.value, self.lift(other)))

    def __rtruediv__(self, other):
        return self._new(self.builder.fdiv(self.lift(other), self.value))

    def __neg__(self):
        return self._new(self.builder.fneg(self.value))

    def __abs__(self):
        sign = 31 if self.single else 63
        return (self.bits() & ((1 << sign) - 1)).as_number()

    def _compare(self, operation, other):
        return Mask(
            self.builder, self.builder.fcmp_ordered(operation, self.value, self.lift(other))
        )

    def __lt__(self, other):
        return self._compare("<", other)

    def __le__(self, other):
        return self._compare("<=", other)

    def __gt__(self, other):
        return self._compare(">", other)

    def __ge__(self, other):
        return self._compare(">=", other)

    def same(self, other):
        return self._compare("==", other)

    def nan(self):
        return Mask(self.builder, self.builder.fcmp_unordered("uno", self.value, self.value))

    def sqrt(self):
        return _intrinsic("sqrt", self)

    def bits(self):
        return self.cast("bitcast", ir.IntType(32 if self.single else 64), Bits)

    def wide(self):
        """As float64."""
        return self.cast("fpext", DOUBLE, Number) if self.single else self

    def narrow(self):
        """Rounded to float32."""
        return self if self.single else self.cast("fptrunc", SINGLE, Number)


def choose(mask, a, b):
    """a where the mask is true, else b; one of both may be a Python number."""
    like = a if isinstance(a, Number) else b
    return like._new(mask.builder.select(mask.value, like.lift(a), like.lift(b)))


def _intrinsic(name, first, *others):
    """One of LLVM's own functions, of numbers of one type."""
    kind = first.value.type
    lanes = f"v{first.count}" if first.count > 1 else ""
    signature = ir.FunctionType(kind, [kind] * (1 + len(others)))
    full = f"llvm.{name}.{lanes}{'f32' if first.single else 'f64'}"
    function = cgutils.get_or_insert_function(first.builder.module, signature, full)
    values = [first.value, *(first.lift(other) for other in others)]
    return first._new(first.builder.call(function, values))


def exact_fma(a, b, c):
    """a·b + c with one rounding, by a library call where the machine has no instruction."""
    return _intrinsic("fma", a, b, c)


def madd(a, b, c):
    """a·b + c: fused where the machine can, two roundings elsewhere."""
    return exact_fma(a, b, c) if HAS_FMA else a * b + c


def polynomial(x, *coefficients):
    """Horner's scheme, the highest power first."""
    total = x._new(x.lift(coefficients[0]))
    for c in coefficients[1:]:
        total = madd(total, x, c)
    return total
