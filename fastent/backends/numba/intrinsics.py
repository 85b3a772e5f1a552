"""What LLVM can do and Python cannot say: fused multiply-add, bit casts, sums and maxima in lanes.

LLVM keeps the order of floating-point operations as written, so it never vectorises a sum by
itself. The lane reductions here write the vector accumulators out; they need no fast-math flag and
give the same bits whatever the vector width of the machine.
"""

from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

INT = ir.IntType(64)
LANES = 8  # of one accumulator
CHAINS = 4  # independent accumulators, which hide the latency of an addition
STEP = LANES * CHAINS


def _fma_in_hardware():
    features = binding.get_host_cpu_features()
    arm = binding.get_process_triple().startswith(("aarch64", "arm64"))
    return arm or bool(features.get("fma"))


HAS_FMA = _fma_in_hardware()


@intrinsic
def exact_fma(typingctx, a, b, c):
    """a * b + c with one rounding, by a library call where the machine has no instruction."""

    def codegen(context, builder, signature, args):
        return builder.fma(*args)

    return types.float64(types.float64, types.float64, types.float64), codegen


@intrinsic
def muladd(typingctx, a, b, c):
    """a * b + c: fused where the machine can, two roundings elsewhere. Never left to the optimiser,
    so that a value does not depend on where a function was inlined."""

    def codegen(context, builder, signature, args):
        if HAS_FMA:
            return builder.fma(*args)
        return builder.fadd(builder.fmul(args[0], args[1]), args[2])

    return types.float64(types.float64, types.float64, types.float64), codegen


@intrinsic
def to_bits(typingctx, x):
    """The bits of a float64 as an int64."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], INT)

    return types.int64(types.float64), codegen


@intrinsic
def from_bits(typingctx, x):
    """The float64 with the bits of an int64."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@intrinsic
def is_single(typingctx, array):
    """Whether an array holds float32: a constant of the compiled code, so branches on it vanish."""
    constant = int(array.dtype == types.float32)

    def codegen(context, builder, signature, args):
        return ir.Constant(ir.IntType(1), constant)

    return types.boolean(array), codegen


def _lane_reduction(context, builder, signature, args, start, combine):
    """Vector accumulators over args[0][args[1] : args[1] + args[2]], args[2] a multiple of STEP."""
    array = context.make_array(signature.args[0])(context, builder, args[0])
    vector = ir.VectorType(start.type, LANES)
    chains = [
        cgutils.alloca_once_value(builder, ir.Constant(vector, [start] * LANES))
        for _ in range(CHAINS)
    ]
    zero, step = ir.Constant(INT, 0), ir.Constant(INT, STEP)
    with cgutils.for_range_slice(builder, zero, args[2], step) as (index, _):
        first = builder.add(args[1], index)
        for k, chain in enumerate(chains):
            place = builder.gep(array.data, [builder.add(first, ir.Constant(INT, k * LANES))])
            loaded = builder.load(builder.bitcast(place, vector.as_pointer()), align=4)
            builder.store(combine(builder.load(chain), loaded), chain)
    vectors = [builder.load(chain) for chain in chains]
    while len(vectors) > 1:
        half = len(vectors) // 2
        vectors = [combine(a, b) for a, b in zip(vectors[:half], vectors[half:], strict=True)]
    (folded,), width = vectors, LANES
    while width > 1:
        width //= 2
        low, high = (
            builder.shuffle_vector(
                folded,
                folded,
                ir.Constant(
                    ir.VectorType(ir.IntType(32), width), list(range(begin, begin + width))
                ),
            )
            for begin in (0, width)
        )
        folded = combine(low, high)
    return builder.extract_element(folded, ir.Constant(ir.IntType(32), 0))


def _constant(numba_type, value):
    return ir.Constant(ir.FloatType() if numba_type == types.float32 else ir.DoubleType(), value)


@intrinsic
def _whole_sum(typingctx, array, start, size):
    def codegen(context, builder, signature, args):
        zero = _constant(types.float64, 0.0)
        return _lane_reduction(context, builder, signature, args, zero, builder.fadd)

    return types.float64(array, types.intp, types.intp), codegen


@intrinsic
def _whole_max(typingctx, array, start, size):
    def codegen(context, builder, signature, args):
        def larger(a, b):  # a NaN never wins: the caller meets it again in its sums
            return builder.select(builder.fcmp_ordered(">", b, a), b, a)

        low = _constant(array.dtype, float("-inf"))
        return _lane_reduction(context, builder, signature, args, low, larger)

    return array.dtype(array, types.intp, types.intp), codegen


@njit(nogil=True, error_model="numpy")
def segment_sum(array, start, size):
    """Sum of array[start : start + size] (float64), in a fixed order."""
    rest = 0.0
    if size < STEP:
        for j in range(start, start + size):
            rest += array[j]
        return rest
    whole = size - size % STEP
    for j in range(start + whole, start + size):
        rest += array[j]
    return _whole_sum(array, start, whole) + rest


@njit(nogil=True, error_model="numpy")
def segment_max(array, start, size):
    """Largest number of array[start : start + size]; NaN is passed over where there is a number."""
    if size < STEP:
        top = array[start]
        for j in range(start + 1, start + size):
            if array[j] > top or top != top:
                top = array[j]
        return top
    whole = size - size % STEP
    top = _whole_max(array, start, whole)
    for j in range(start + whole, start + size):
        if array[j] > top:
            top = array[j]
    return top
