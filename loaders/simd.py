"""Four operations that LLVM does not find by itself in plain loops.

Each is a Numba intrinsic that emits portable LLVM vector code: 16 floats at a time, whatever
registers the CPU has (one AVX-512, two AVX2, four NEON). Addresses are integers in bytes, as from
`array.ctypes.data`, and nothing is checked: the callers in `loaders.kernel` own the bounds.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic as untyped_intrinsic

LANES = 16

# Numba's own types would have a caller pass the compiler's context, too.
intrinsic: Any = untyped_intrinsic

_I8, _I16, _I32 = ir.IntType(8), ir.IntType(16), ir.IntType(32)
_F32 = ir.FloatType()
_VECTOR = ir.VectorType(_F32, LANES)
_FUSE = ("contract",)

Builder = Any  # llvmlite's IRBuilder; it has no type hints
Value = Any


@intrinsic  # type: ignore[untyped-decorator]
def byte_pointer(_context: Any, _address: Any) -> Any:
    """Address -> a pointer to uint8 that can be indexed."""

    def generate(_context: Any, builder: Builder, _signature: Any, args: Any) -> Value:
        return builder.inttoptr(args[0], _I8.as_pointer())

    pointer: Any = types.CPointer  # untyped
    return pointer(types.uint8)(types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def weighted_sum(_context: Any, _source: Any, _weights: Any, _taps: Any, _out: Any) -> Any:
    """out[:16] = sum over k < taps of weights[k] * source[k, :16]; float32, rows of 16."""

    def body(builder: Builder, source: Value, weights: Value, taps: Value, out: Value) -> None:
        total: Value = cgutils.alloca_once(builder, _VECTOR)  # type: ignore[no-untyped-call]
        builder.store(ir.Constant(_VECTOR, None), total)
        with cgutils.for_range(builder, taps) as loop:
            row = _load(builder, _element(builder, source, loop.index, _VECTOR))
            weight = _broadcast(builder, _element(builder, weights, loop.index, _F32))
            product = builder.fmul(row, weight, flags=_FUSE)
            builder.store(builder.fadd(builder.load(total), product, flags=_FUSE), total)
        _store(builder, builder.load(total), _element(builder, out, 0, _VECTOR))

    return _procedure(4, body)


@intrinsic  # type: ignore[untyped-decorator]
def transpose(_context: Any, _source: Any, _source_stride: Any, _out: Any, _out_stride: Any) -> Any:
    """out[j, i] = source[i, j] for 8 x 8 float32; strides between rows in bytes."""

    def body(
        builder: Builder, source: Value, source_stride: Value, out: Value, out_stride: Value
    ) -> None:
        vector = ir.VectorType(_F32, 8)
        rows = [_load(builder, _row(builder, source, source_stride, i, vector)) for i in range(8)]
        # Three rounds of exchanging halves, quarters and eighths between pairs of rows.
        for width in (4, 2, 1):
            low = [i for i in range(8) if not i & width]
            first = [i if not i & width else i - width + 8 for i in range(8)]
            second = [i + width for i in first]
            for i in low:
                one, other = rows[i], rows[i + width]
                rows[i] = _shuffle(builder, one, other, first)
                rows[i + width] = _shuffle(builder, one, other, second)
        for i, row in enumerate(rows):
            _store(builder, row, _row(builder, out, out_stride, i, vector))

    return _procedure(4, body)


@intrinsic  # type: ignore[untyped-decorator]
def color_pixels(
    _context: Any,
    _source: Any,
    _source_stride: Any,
    _to_rgb: Any,
    _color: Any,
    _has_color: Any,
    _out: Any,
    sample: Any,
) -> Any:
    """16 pixels of Y, U and V to RGB, interleaved as the output's type.

    rgb = clip(to_rgb @ (y, u, v, 1)), then clip(color @ (rgb, 1)) where `has_color` is not 0.
    `source` is the address of 16 floats of Y, with U and V a stride each further; the matrices are
    (3, 4) float32. `sample` is any value of the output's type: uint8 stores 255 x the value,
    rounded; uint16 the bits of its float16; float32 the value.
    """

    def body(
        builder: Builder,
        source: Value,
        stride: Value,
        to_rgb: Value,
        color: Value,
        has_color: Value,
        out: Value,
        _sample: Value,
    ) -> None:
        values = [_load(builder, _row(builder, source, stride, i, _VECTOR)) for i in range(3)]
        rgb = [cgutils.alloca_once(builder, _VECTOR) for _ in range(3)]  # type: ignore[no-untyped-call]
        for place, value in zip(rgb, _clipped_affine(builder, to_rgb, values), strict=True):
            builder.store(value, place)
        with builder.if_then(builder.icmp_signed("!=", has_color, has_color.type(0))):
            plain = [builder.load(place) for place in rgb]
            for place, value in zip(rgb, _clipped_affine(builder, color, plain), strict=True):
                builder.store(value, place)
        _store_interleaved(builder, [builder.load(place) for place in rgb], out, sample)

    return _procedure(6, body, sample)


def _clipped_affine(builder: Builder, matrix: Value, values: list[Value]) -> list[Value]:
    """clip(matrix @ (values, 1), 0, 1) for a (3, 4) matrix at an address."""
    zero, one = ir.Constant(_VECTOR, [0.0] * LANES), ir.Constant(_VECTOR, [1.0] * LANES)
    results = []
    for i in range(3):
        factors = [
            _broadcast(builder, _element(builder, matrix, 4 * i + k, _F32)) for k in range(4)
        ]
        total = factors[3]
        for value, factor in zip(values, factors[:3], strict=True):
            total = builder.fadd(total, builder.fmul(value, factor, flags=_FUSE), flags=_FUSE)
        total = builder.select(builder.fcmp_ordered(">", total, zero), total, zero)
        results.append(builder.select(builder.fcmp_ordered("<", total, one), total, one))
    return results


def _store_interleaved(builder: Builder, rgb: list[Value], out: Value, sample: Any) -> None:
    channels = [_cast(builder, value, sample) for value in rgb]
    pairs = _shuffle(builder, channels[0], channels[1], list(range(2 * LANES)))
    third = _shuffle(builder, channels[2], channels[2], list(range(2 * LANES)))
    order = [
        pixel + LANES * channel if channel < 2 else 2 * LANES + pixel
        for pixel in range(LANES)
        for channel in range(3)
    ]
    vector = ir.VectorType(channels[0].type.element, 3 * LANES)
    _store(builder, _shuffle(builder, pairs, third, order), _element(builder, out, 0, vector))


def _cast(builder: Builder, value: Value, sample: Any) -> Value:
    if sample == types.uint8:
        scaled = builder.fmul(value, ir.Constant(_VECTOR, [255.0] * LANES), flags=_FUSE)
        rounded = builder.fadd(scaled, ir.Constant(_VECTOR, [0.5] * LANES), flags=_FUSE)
        whole = builder.fptoui(rounded, ir.VectorType(_I32, LANES))
        return builder.trunc(whole, ir.VectorType(_I8, LANES))
    if sample == types.uint16:
        return _half_bits(builder, value)
    return value


def _half_bits(builder: Builder, value: Value) -> Value:
    """The float16 bits of floats in [0, 1], rounded to nearest, ties to even.

    Not `fptrunc`: where a CPU has no instruction for it, LLVM calls a function that Numba lacks.
    Scaled by 2**-112, a float has float16's exponent, and 13 more bits of fraction.
    """
    integers = ir.VectorType(_I32, LANES)

    def constant(number: int) -> Value:
        return ir.Constant(integers, [number] * LANES)

    scaled = builder.fmul(value, ir.Constant(_VECTOR, [2.0**-112] * LANES))
    bits = builder.bitcast(scaled, integers)
    odd = builder.and_(builder.lshr(bits, constant(13)), constant(1))
    rounded = builder.add(builder.add(bits, constant(0xFFF)), odd)
    return builder.trunc(builder.lshr(rounded, constant(13)), ir.VectorType(_I16, LANES))


def _procedure(num_addresses: int, body: Callable[..., None], *extra: Any) -> Any:
    """(signature, code generator) of an intrinsic on integers that returns nothing."""

    def generate(context: Any, builder: Builder, _signature: Any, args: Any) -> Value:
        body(builder, *args)
        return context.get_dummy_value()

    return types.void(*[types.intp] * num_addresses, *extra), generate


def _element(builder: Builder, address: Value, index: Any, element: Any) -> Value:
    """Pointer to element `index` of an array of `element` at an address."""
    if isinstance(index, int):
        index = ir.Constant(address.type, index)
    return builder.gep(builder.inttoptr(address, element.as_pointer()), [index])


def _row(builder: Builder, address: Value, stride: Value, index: int, vector: Any) -> Value:
    offset = builder.mul(stride, ir.Constant(stride.type, index))
    return builder.inttoptr(builder.add(address, offset), vector.as_pointer())


def _load(builder: Builder, pointer: Value) -> Value:
    value = builder.load(pointer)
    value.align = 1
    return value


def _store(builder: Builder, value: Value, pointer: Value) -> None:
    builder.store(value, pointer).align = 1


def _broadcast(builder: Builder, pointer: Value) -> Value:
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    single = builder.insert_element(undefined, builder.load(pointer), ir.Constant(_I32, 0))
    return _shuffle(builder, single, undefined, [0] * LANES)


def _shuffle(builder: Builder, one: Value, other: Value, order: list[int]) -> Value:
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_I32, len(order)), order))
