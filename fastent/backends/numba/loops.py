"""Formulas as loops over memory that Numba code can call.

A loop works on vectors of 64 bytes whatever the machine has (LLVM cuts them to its registers), so
a value has the same bits wherever it stands: the last, partial vector goes through a copy.
"""

import inspect

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .vectors import DOUBLE, SINGLE, Bits, Mask, Number, lanes_of

INT = ir.IntType(64)
INT32 = ir.IntType(32)
BYTES = 64  # of a vector
KEPT = (types.CPointer, types.BaseTuple)  # arguments of loops that are no numbers


def size_of(element):
    return 4 if element == SINGLE else 8


def element_of(kind):
    """The LLVM type of what an array or a pointer holds."""
    return SINGLE if kind.dtype == types.float32 else DOUBLE


def number(value):
    return ir.Constant(INT, value)


def load(builder, pointer, index, element, lanes):
    place = builder.gep(pointer, [index])
    kind = lanes_of(element, lanes)
    return builder.load(builder.bitcast(place, kind.as_pointer()), align=size_of(element))


def store(builder, value, pointer, index, element):
    place = builder.gep(pointer, [index])
    builder.store(value, builder.bitcast(place, value.type.as_pointer()), align=size_of(element))


def splat(builder, value, lanes):
    if lanes == 1:
        return value
    kind = ir.VectorType(value.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(INT32, 0))
    order = ir.Constant(ir.VectorType(INT32, lanes), [0] * lanes)
    return builder.shuffle_vector(one, one, order)


def resized(number, element):
    """A Number with another type of element."""
    return number.narrow() if element == SINGLE else number.wide()


def below(builder, count, lanes):
    """The mask of the first `count` lanes."""
    numbers = ir.Constant(ir.VectorType(INT, lanes), list(range(lanes)))
    return builder.icmp_signed("<", numbers, splat(builder, count, lanes))


def folded(builder, vector, combine):
    """One number of a vector, by halves."""
    width = vector.type.count
    while width > 1:
        width //= 2
        low, high = (
            builder.shuffle_vector(
                vector,
                vector,
                ir.Constant(ir.VectorType(INT32, width), list(range(begin, begin + width))),
            )
            for begin in (0, width)
        )
        vector = combine(low, high)
    return builder.extract_element(vector, ir.Constant(INT32, 0))


@intrinsic
def at(typingctx, array, offset):
    """The address of array[offset]: plain pointers need no wrap-around of negative indices."""
    pointer = types.CPointer(array.dtype)

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.gep(data, [args[1]])

    return pointer(array, types.intp), codegen


@intrinsic
def is_single(typingctx, array):
    """Whether an array holds float32: a constant of the compiled code, so branches on it vanish."""
    constant = int(array.dtype == types.float32)

    def codegen(context, builder, signature, args):
        return ir.Constant(ir.IntType(1), constant)

    return types.boolean(array), codegen


def arguments(formula):
    return len(inspect.signature(formula).parameters)


def with_arguments(count):
    """An intrinsic of `count` arguments; Numba would pass *args on as a tuple."""

    def decorate(function):
        kind = inspect.Parameter.POSITIONAL_ONLY
        names = ["typingctx", *(f"a{k}" for k in range(count))]
        function.__signature__ = inspect.Signature(
            [inspect.Parameter(name, kind) for name in names]
        )
        return intrinsic(function)

    return decorate


def called(formula):
    """A formula of float64 numbers as a function for compiled code."""

    @with_arguments(arguments(formula))
    def call(typingctx, *args):
        def codegen(context, builder, signature, values):
            return formula(*(Number(builder, value) for value in values)).value

        return types.float64(*(types.float64 for _ in args)), codegen

    return call


def mapped(formula, reads, writes, room, apart=0, over=False, padded=False, inner=None):
    """A formula as a loop: call it as loop(n, *sources, target, *numbers).

    Sources are pointers, or one pointer to `reads` arrays `apart` elements from each other; the
    results go to `writes` arrays `room` apart from the target on. Arithmetic is done in the type of
    the target, or in that of the `inner` source. With `over` the call begins (n, readable, ...):
    that many elements may be read, which spares a copy of the last vector, and targets have room;
    `padded` sources and targets all have room. The formula is given the elements and then the
    numbers; it returns the results and a Mask (or None), and the loop returns how many of the n
    elements had it. Bits instead of a Mask tell no more than whether a sign bit was seen.
    """
    pointers = 1 if apart else reads

    @with_arguments(2 + over + pointers + arguments(formula) - reads)
    def loop(typingctx, n, *args):
        def codegen(context, builder, signature, values):
            given = list(zip(values, signature.args, strict=True))[1 + over :]
            kinds = [element_of(t) for _, t in given[: pointers + 1]]
            sources = [value for value, _ in given[:pointers]]
            target, written = given[pointers][0], kinds.pop()
            if apart:
                sources = [builder.gep(sources[0], [number(k * apart)]) for k in range(reads)]
                kinds *= reads
            targets = [builder.gep(target, [number(k * room)]) for k in range(writes)]
            element = written if inner is None else kinds[inner]
            width = BYTES // size_of(element)
            numbers = []
            for value, kind in given[pointers + 1 :]:
                numbers.append(spread(builder, value, kind, element, width))
            tally = ir.VectorType(ir.IntType(8 * size_of(element)), width)
            seen = cgutils.alloca_once_value(builder, ir.Constant(tally, [0] * width))

            signs = []

            def step(sources, targets, index, limit=None):
                loaded = [
                    resized(Number(builder, load(builder, p, index, kind, width)), element)
                    for p, kind in zip(sources, kinds, strict=True)
                ]
                *found, mask = formula(*loaded, *numbers)
                for value, p in zip(found, targets, strict=True):
                    store(builder, resized(value, written).value, p, index, written)
                if mask is None:
                    return
                signs.append(isinstance(mask, Bits))
                if signs[
                    0
                ]:  # the copy of a partial vector is padded with zeros, which are positive
                    builder.store(builder.or_(builder.load(seen), mask.value), seen)
                    return
                if limit is not None:
                    mask = mask & Mask(builder, below(builder, limit, width))
                one = builder.zext(mask.value, tally)
                builder.store(builder.add(builder.load(seen), one), seen)

            def partial_step(whole, rest):
                copies = [copy_room(builder, kind, width) for kind in kinds]
                for copy, source, kind in zip(copies, sources, kinds, strict=True):
                    place = builder.gep(source, [whole])
                    cgutils.raw_memcpy(builder, copy, place, rest, size_of(kind))
                results = [copy_room(builder, written, width) for _ in targets]
                step(copies, results, number(0), rest)
                for result, to in zip(results, targets, strict=True):
                    place = builder.gep(to, [whole])
                    cgutils.raw_memcpy(builder, place, result, rest, size_of(written))

            whole = builder.and_(values[0], number(-width))
            with cgutils.for_range_slice(builder, number(0), whole, number(width)) as (index, _):
                step(sources, targets, index)
            rest = builder.sub(values[0], whole)
            with builder.if_then(builder.icmp_signed(">", rest, number(0))):
                if padded:
                    step(sources, targets, whole, rest)
                elif over:
                    end = builder.add(whole, number(width))
                    enough = builder.icmp_signed("<=", end, values[1])
                    with builder.if_else(enough) as (then, otherwise):
                        with then:
                            step(sources, targets, whole, rest)
                        with otherwise:
                            partial_step(whole, rest)
                else:
                    partial_step(whole, rest)
            if not signs:
                return number(0)
            total = builder.load(seen)
            if signs[0]:
                total = folded(builder, total, builder.or_)
                return builder.zext(builder.icmp_signed("<", total, total.type(0)), INT)
            return builder.zext(folded(builder, total, builder.add), INT)

        kinds = [types.intp] * over
        kinds += [a if isinstance(a, KEPT) else types.float64 for a in args[over:]]
        return types.int64(types.intp, *kinds), codegen

    return loop


def spread(builder, value, kind, element, width):
    """A number in all lanes; a tuple of numbers as a tuple."""
    if isinstance(kind, types.BaseTuple):
        return tuple(
            spread(builder, one, types.float64, element, width)
            for one in cgutils.unpack_tuple(builder, value)
        )
    one = resized(Number(builder, value), element).value
    return Number(builder, splat(builder, one, width))


def copy_room(builder, element, width):
    """A vector's worth of zeros on the stack, as a pointer to its elements."""
    room = cgutils.alloca_once(builder, ir.ArrayType(element, width))
    pointer = builder.bitcast(room, element.as_pointer())
    store(builder, ir.Constant(ir.VectorType(element, width), [0.0] * width), pointer,
           number(0), element)  # fmt: skip
    return pointer
