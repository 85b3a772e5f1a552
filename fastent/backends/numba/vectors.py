"""Arithmetic on LLVM vectors, memory and loops in the notation of Python.

A formula is a plain function of Numbers: called once while a kernel is compiled, it leaves its
instructions behind, for float32 or float64 and for any count of lanes. Nothing is reordered or
contracted: what is written is what is computed, whatever the machine's vectors are.

Why: on KL of 100 float32 classes plain Numba takes 12 times the compiled backend's time as a loop
over classes, 3.3 with arrays of terms, 2.2 with 32 lanes written out; this takes 0.95. And Numba's
type inference, which is most of the time to a first result, sees a call where the formula was.

This is the only module that leans on what is inside Numba and llvmlite, and tests/test_vectors.py
holds it to NumPy by itself: on what it imports, the layout of arrays (`data` and `nitems` of
`make_array(...)`), and for what `kept` does a dispatcher's `_cache` with its two methods,
`CompileResult._reduce` and `_rebuild`, and `magic_tuple` (what code is made for).
"""

import inspect
import pickle
from contextlib import contextmanager
from functools import partial

import llvmlite
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.core.compiler import CompileResult
from numba.core.compiler_lock import global_compiler_lock as compiler_lock  # noqa: F401
from numba.core.runtime.nrt import rtsys
from numba.core.serialize import dumps
from numba.extending import intrinsic

from . import kept

SINGLE, DOUBLE = ir.FloatType(), ir.DoubleType()
BYTE, INT32, INT = ir.IntType(8), ir.IntType(32), ir.IntType(64)
ELEMENTS = {types.float32: SINGLE, types.float64: DOUBLE, types.int64: INT, types.int8: BYTE}
BYTES = 64  # of a vector: LLVM cuts them to the machine's registers


ARM = binding.get_process_triple().startswith(("aarch64", "arm64"))
HAS_FMA = ARM or bool(binding.get_host_cpu_features().get("fma"))


def size_of(element):
    return {SINGLE: 4, DOUBLE: 8}.get(element) or element.width // 8


def lanes_of(element):
    """How many make a vector."""
    return BYTES // size_of(element)


def _vector(element, count):
    """The type of `count` lanes; a single number is no vector."""
    return ir.VectorType(element, count) if count > 1 else element


def _numbers(kind, lanes):
    return ir.Constant(ir.VectorType(kind, lanes), list(range(lanes)))


def _value(builder, value, element):
    return (Number if element in (SINGLE, DOUBLE) else Bits)(builder, value)


def _operator(instruction, swapped=False):
    def operate(self, other):
        a, b = self.value, self.lift(other)
        name = instruction.format(self.prefix)
        return self._new(getattr(self.builder, name)(*((b, a) if swapped else (a, b))))

    return operate


def _comparison(sign):
    def compare(self, other):
        compared = getattr(self.builder, self.comparison)
        return Mask(self.builder, compared(sign, self.value, self.lift(other)))

    return compare


class Lanes:
    """What the kinds of value share: Mask, which has no arithmetic, Bits, and Number."""

    prefix = comparison = ""  # of the names of LLVM's instructions
    __add__ = __radd__ = _operator("{}add")
    __mul__ = __rmul__ = _operator("{}mul")
    __sub__, __rsub__ = _operator("{}sub"), _operator("{}sub", swapped=True)
    __and__, __or__ = _operator("and_"), _operator("or_")
    __lt__, __le__, __gt__, __ge__ = (_comparison(sign) for sign in ("<", "<=", ">", ">="))
    same = _comparison("==")

    def __init__(self, builder, value):
        self.builder, self.value = builder, value
        kind, vector = value.type, isinstance(value.type, ir.VectorType)
        self.element, self.count = (kind.element, kind.count) if vector else (kind, 1)

    def __invert__(self):
        return self._new(self.builder.not_(self.value))

    def lift(self, other):
        """Another value, or a Python number, as an LLVM value of this type."""
        if isinstance(other, Lanes):
            return other.value
        kind = self.value.type
        return ir.Constant(kind, [other] * self.count if self.count > 1 else other)

    def filled(self, number):
        """A Python number in all lanes."""
        return self._new(self.lift(number))

    def _new(self, value):
        return type(self)(self.builder, value)

    def _cast(self, instruction, element, kind):
        target = _vector(element, self.count)
        return kind(self.builder, getattr(self.builder, instruction)(self.value, target))

    def shuffled(self, order, other=None):
        """Lanes in another order; those of `other` follow one's own."""
        second = self.value if other is None else other.value
        order = ir.Constant(ir.VectorType(INT32, len(order)), list(order))
        return self._new(self.builder.shuffle_vector(self.value, second, order))

    def spread(self, lanes):
        """A single value in all lanes."""
        one = ir.Constant(ir.VectorType(self.element, lanes), ir.Undefined)
        one = self.builder.insert_element(one, self.value, ir.Constant(INT32, 0))
        return self._new(one).shuffled([0] * lanes) if lanes > 1 else self

    def folded(self, combine):
        """One value of all lanes, by halves."""
        while self.count > 1:
            half = self.count // 2
            self = combine(self.shuffled(range(half)), self.shuffled(range(half, 2 * half)))
        return self.lane(0) if isinstance(self.value.type, ir.VectorType) else self

    def lane(self, k):
        return self._new(self.builder.extract_element(self.value, ir.Constant(INT32, k)))


class Mask(Lanes):
    """True or false in each lane."""

    def any(self):
        if self.count == 1:
            return self
        packed = self.builder.bitcast(self.value, ir.IntType(self.count))
        return Bits(self.builder, packed).differs(0)

    def as_bits(self, width):
        """All bits of an integer, or none."""
        return self._cast("sext", ir.IntType(width), Bits)

    def as_count(self):
        """1 or 0."""
        return self._cast("zext", INT, Bits)


class Bits(Lanes):
    """Integers: as wide as the floats they come from, or counts."""

    comparison = "icmp_signed"
    differs = _comparison("!=")
    __xor__ = _operator("xor")
    __lshift__, __rshift__ = _operator("shl"), _operator("ashr")
    logical_shift = _operator("lshr")
    within = _operator("udiv", swapped=True)  # how often one's own fits into a count

    def least(self, other):
        """The lesser of signed integers: an instruction, where floats take two."""
        return choose(self < other, self, other)

    def most(self, other):
        return choose(self < other, other, self)

    def as_bits(self, width):
        """Themselves, where a Mask makes them."""
        return self

    def as_number(self):
        """The floats with these bits."""
        return self._cast("bitcast", SINGLE if self.element.width == 32 else DOUBLE, Number)

    def converted(self):
        """The integers as floats."""
        return self._cast("sitofp", SINGLE if self.element.width == 32 else DOUBLE, Number)

    def first(self, lanes):
        """The mask of as many lanes as this count says."""
        return self._new(_numbers(INT, lanes)) < self.spread(lanes)

    def only(self, lanes):
        """The mask of the lane with this number."""
        kind = ir.IntType(8 * BYTES // lanes)
        one = self if kind == INT else self._cast("trunc", kind, Bits)
        return self._new(_numbers(kind, lanes)).same(one.spread(lanes))


class Number(Lanes):
    """float32 or float64 in each lane."""

    prefix, comparison = "f", "fcmp_ordered"
    __truediv__, __rtruediv__ = _operator("fdiv"), _operator("fdiv", swapped=True)

    single = property(lambda self: self.element == SINGLE)

    def __neg__(self):
        return self._new(self.builder.fneg(self.value))

    def __abs__(self):
        sign = 31 if self.single else 63
        return (self.bits() & ((1 << sign) - 1)).as_number()

    def nan(self):
        return Mask(self.builder, self.builder.fcmp_unordered("uno", self.value, self.value))

    def sqrt(self):
        return _intrinsic("sqrt", self)

    def bits(self):
        return self._cast("bitcast", ir.IntType(32 if self.single else 64), Bits)

    def wide(self):
        """As float64."""
        return self._cast("fpext", DOUBLE, Number) if self.single else self

    def narrow(self):
        """Rounded to float32."""
        return self if self.single else self._cast("fptrunc", SINGLE, Number)

    def resized(self, element):
        return self.narrow() if element == SINGLE else self.wide()


def choose(mask, a, b):
    """a where the mask is true, else b; one of both may be a Python number."""
    like = a if isinstance(a, Lanes) else b
    return like._new(mask.builder.select(mask.value, like.lift(a), like.lift(b)))


def spread(number, element, lanes):
    """A number in all lanes; a tuple of numbers as a tuple."""
    if isinstance(number, tuple):
        return tuple(spread(one, element, lanes) for one in number)
    return number.resized(element).spread(lanes) if isinstance(number, Number) else number


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
    total = x.filled(coefficients[0])
    for c in coefficients[1:]:
        total = madd(total, x, c)
    return total


class Pointer:
    """The address of numbers of one type; plain ones need no wrap-around of negative indices. That
    of an array knows its size."""

    def __init__(self, builder, value, element, size=None):
        self.builder, self.value, self.element, self.size = builder, value, element, size

    def _new(self, value):
        return Pointer(self.builder, value, self.element)

    def __add__(self, offset):
        offset = ir.Constant(INT, offset) if isinstance(offset, int) else offset.value
        return self._new(self.builder.gep(self.value, [offset]))

    def load(self, lanes=1, index=0):
        kind = _vector(self.element, lanes)
        place = self.builder.bitcast((self + index).value, kind.as_pointer())
        value = self.builder.load(place, align=size_of(self.element))
        return _value(self.builder, value, self.element)

    def store(self, value, index=0):
        place = self.builder.bitcast((self + index).value, value.value.type.as_pointer())
        self.builder.store(value.value, place, align=size_of(self.element))

    def copy(self, source, count):
        """Take over `count` elements; the two do not overlap."""
        cgutils.raw_memcpy(
            self.builder, self.value, source.value, count.value, size_of(self.element)
        )

    def zeros(self, lanes=1):
        """A vector of what stands there, all of it 0."""
        value = ir.Constant(_vector(self.element, lanes), None)
        return _value(self.builder, value, self.element)

    def room(self, count, element=None):
        """As much of the stack, filled with zeros, as `count` elements need."""
        element = element or self.element
        place = cgutils.alloca_once(self.builder, ir.ArrayType(element, count))  # which fills it
        place = self.builder.bitcast(place, element.as_pointer())
        return Pointer(self.builder, place, element)


class Variable:
    """A value that code in loops and branches changes."""

    def __init__(self, first):
        self._first = first
        self._place = cgutils.alloca_once(first.builder, first.value.type)
        self.value = first

    @property
    def value(self):
        return self._first._new(self._first.builder.load(self._place))

    @value.setter
    def value(self, new):
        new.builder.store(new.value, self._place)


@contextmanager
def each(start, stop, step=1):
    """A loop: the body is written once, for the count that it is given."""
    bounds = (stop.lift(start), stop.value, stop.lift(step))
    with cgutils.for_range_slice(stop.builder, *bounds) as (index, _):
        yield Bits(stop.builder, index)


def when(mask, likely=None):
    return mask.builder.if_then(mask.value, likely=likely)


def either(mask):
    """``with either(mask) as (then, otherwise)``, both to be entered with ``with``."""
    return mask.builder.if_else(mask.value)


def arguments(formula):
    return len(inspect.signature(formula).parameters)


def _given(kind):
    """The type that an argument is converted to."""
    if isinstance(kind, types.Integer):
        return types.intp
    return types.float64 if isinstance(kind, types.Float) else kind


def _wrapped(context, builder, value, kind):
    if isinstance(kind, types.Array):
        array, element = context.make_array(kind)(context, builder, value), ELEMENTS[kind.dtype]
        return Pointer(builder, array.data, element, Bits(builder, array.nitems))
    if isinstance(kind, types.BaseTuple):
        parts = zip(cgutils.unpack_tuple(builder, value), kind, strict=True)
        return tuple(_wrapped(context, builder, *part) for part in parts)
    return _value(builder, value, value.type)


def inline(result=types.void, count=None, given=_given):
    """A function of values as one of compiled code, which gives counts, floats (as float64), tuples
    of these and arrays; `count` is that of its arguments where it takes ``*more``."""

    def decorate(function):
        def typed(typingctx, *args):
            def codegen(context, builder, signature, values):
                pairs = zip(values, signature.args, strict=True)
                found = function(*(_wrapped(context, builder, *pair) for pair in pairs))
                return context.get_dummy_value() if found is None else found.value

            return result(*map(given, args)), codegen

        # Numba would pass *args on as a tuple
        kind = inspect.Parameter.POSITIONAL_ONLY
        names = ["typingctx", *(f"a{k}" for k in range(count or arguments(function)))]
        typed.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])
        return intrinsic(typed)

    return decorate


# A formula of float64 numbers, whatever numbers it is called with.
called = inline(types.float64, given=lambda kind: types.float64)


@inline(types.boolean)
def is_single(array):
    """Whether an array holds float32: a constant of the compiled code, so branches on it vanish."""
    return Mask(array.builder, ir.Constant(ir.IntType(1), int(array.element == SINGLE)))


def _told(thing):
    """What a kernel closes over, in words that are the same in every process."""
    thing = getattr(thing, "py_func", getattr(thing, "_defn", thing))  # a kernel, an intrinsic
    if isinstance(thing, partial):
        return [_told(thing.func), thing.args]
    if isinstance(thing, tuple | list):
        return [_told(one) for one in thing]
    if inspect.isfunction(thing):
        cells = [_told(cell.cell_contents) for cell in thing.__closure__ or ()]
        return [thing.__module__, getattr(thing, "told_as", thing.__qualname__), *cells]
    if thing is None or isinstance(thing, bool | int | float | str | types.Type | type):
        return repr(thing)
    raise TypeError(f"nothing that can be told: {thing!r}")


class _Kept:
    """What a dispatcher asks before and after it compiles for a signature."""

    cache_path = property(lambda self: str(kept.folder()))

    def __init__(self, name):
        self.name = name

    def _place(self, signature, codegen):
        name = f"{self.name}-{kept.digest(str(signature))}"
        return kept.place_of(name, HAS_FMA, llvmlite.__version__, *codegen.magic_tuple())

    def load_overload(self, signature, target_context):
        rtsys.initialize(target_context)  # all of `refresh` that code needs which is compiled
        try:
            data = kept.read(self._place(signature, target_context.codegen()))
            return data and CompileResult._rebuild(target_context, *pickle.loads(data))
        except Exception:  # whatever it is, it is no kernel: it is compiled anew
            return None

    def save_overload(self, signature, made):
        if not (made.lifted or made.library.has_dynamic_globals):
            kept.write(self._place(signature, made.codegen), dumps(made._reduce()))


def kernel(function):
    """A function that Numba compiles, without the GIL; it is kept on disk.

    Its name tells it from all others of a process: what comes from disk and what is compiled beside
    it are linked by names, and the numbers that Numba adds are those of another process.
    """
    told = _told(function)
    function.told_as = told[1]
    function.__qualname__ = f"{function.__name__}_{kept.digest(told)}"
    compiled = njit(function, nogil=True, error_model="numpy")
    compiled._cache = _Kept(function.__qualname__)
    return compiled
