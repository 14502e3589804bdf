"""Vector code where LLVM does not vectorise plain loops by itself.

Each operation is a Numba intrinsic that emits portable LLVM vector code for 16 or 32 values at a
time, on any CPU. Values between the passes are 16-bit, because they need half the registers of
floats. Every CPU can multiply them and keep the upper halves, so a tap is a product and an
addition. Addresses are integers in bytes. Nothing is checked: the callers in `kernel` keep to the
bounds.
"""

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba.core import cgutils, types
from numba.extending import intrinsic as untyped_intrinsic

LANES = 16
COLUMNS = 4  # columns that `color_columns` makes at once
LINE = 64  # bytes of a cache line
# Gamma comes from a table: 4096 levels are 16 for each step of an 8-bit source.
GAMMA_LEVELS = 4096

# With Numba's own types a caller would have to pass the compiler's context too.
intrinsic: Any = untyped_intrinsic

_I8, _I16, _I32 = ir.IntType(8), ir.IntType(16), ir.IntType(32)
_F32 = ir.FloatType()
_FLOATS, _SHORTS = ir.VectorType(_F32, LANES), ir.VectorType(_I16, LANES)
_WIDTH = {_I8: 8, _I16: 16, _F32: 32}
_TYPE_OF = {types.uint8: _I8, types.uint16: _I16, types.float32: _F32}
_FUSE = ("contract",)
# Where a CPU has no instruction for `fptrunc` to half, LLVM calls a function that Numba lacks.
_HAS_HALF = (
    get_host_cpu_features().get("f16c", False)
    and numba.config.CPU_NAME is None  # type: ignore[attr-defined]
    and numba.config.CPU_FEATURES is None  # type: ignore[attr-defined]
)

Builder = Any  # llvmlite's IRBuilder; it has no type hints
Value = Any


@intrinsic  # type: ignore[untyped-decorator]
def address(_context: Any, array: Any) -> Any:
    """The address of an array's values. Unlike `array.ctypes.data`, it counts no reference."""

    def generate(context: Any, builder: Builder, _signature: Any, args: Any) -> Value:
        data = context.make_array(array)(context, builder, args[0]).data
        return builder.ptrtoint(data, context.get_value_type(types.intp))

    return types.intp(array), generate


@intrinsic  # type: ignore[untyped-decorator]
def byte_pointer(_context: Any, _address: Any) -> Any:
    """Address -> a pointer to uint8 that can be indexed."""

    def generate(_context: Any, builder: Builder, _signature: Any, args: Any) -> Value:
        return builder.inttoptr(args[0], _I8.as_pointer())

    pointer: Any = types.CPointer  # untyped
    return pointer(types.uint8)(types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def widen_row(_context: Any, _source: Any, _low: Any, _high: Any, _width: Any, _out: Any) -> Any:
    """out[x] = 256 * clip(source[x], low, high) for x < width; uint8 to uint16."""

    def body(
        builder: Builder, source: Value, low: Value, high: Value, width: Value, out: Value
    ) -> None:
        def widen(x: Value, lanes: int) -> None:
            bytes_, shorts = ir.VectorType(_I8, lanes), ir.VectorType(_I16, lanes)
            place = _element(builder, source, x, _I8)
            value = _load(builder, builder.bitcast(place, bytes_.as_pointer()))
            for keep, limit in ((">", low), ("<", high)):
                bound = _spread(builder, builder.trunc(limit, _I8), lanes)
                value = builder.select(builder.icmp_unsigned(keep, value, bound), value, bound)
            value = builder.shl(builder.zext(value, shorts), ir.Constant(shorts, [8] * lanes))
            place = _element(builder, out, x, _I16)
            _store(builder, value, builder.bitcast(place, shorts.as_pointer()))

        lanes = 2 * LANES
        last = builder.sub(width, width.type(lanes))
        with builder.if_else(builder.icmp_signed("<", last, last.type(0))) as (short, long):
            with short, cgutils.for_range(builder, width) as loop:
                widen(loop.index, 1)
            with long:
                with cgutils.for_range_slice(builder, last.type(0), last, last.type(lanes)) as loop:
                    widen(loop[0], lanes)
                # It overlaps the piece before, and so reads nothing past the end.
                widen(last, lanes)

    return _procedure(5, body)


@intrinsic  # type: ignore[untyped-decorator]
def mix_rows(
    _context: Any,
    _source: Any,
    _stride: Any,
    _offsets: Any,
    _weights: Any,
    _taps: Any,
    _out: Any,
) -> Any:
    """16 sums of rows, 32 long, side by side: out[x, i] = sum over k of weights[k, i] * row[x].

    That row lies `offsets[i]` (int64) + k * `stride` bytes from `source`; k < taps. All values are
    uint16, and the sums are of the upper halves of the products. Rows of weights and `out` have 16.
    """

    def body(
        builder: Builder,
        source: Value,
        stride: Value,
        offsets: Value,
        weights: Value,
        taps: Value,
        out: Value,
    ) -> None:
        vector = ir.VectorType(_I16, 2 * LANES)
        sums = _sums(builder, LANES, 2 * LANES, taps)
        with cgutils.for_range(builder, taps) as loop:
            origin = builder.add(source, builder.mul(loop.index, stride))
            for i, total in enumerate(sums):
                offset = builder.load(_element(builder, offsets, i, taps.type))
                row = builder.inttoptr(builder.add(origin, offset), vector.as_pointer())
                _add_product(builder, total, row, _weight(builder, weights, loop.index, i))
        rows = [builder.load(total) for total in sums]
        for first in (0, LANES):
            half = list(range(first, first + LANES))
            columns = _transpose(builder, [_shuffle(builder, row, row, half) for row in rows])
            for x, column in zip(half, columns, strict=True):
                _store(builder, column, _element(builder, out, x, _SHORTS))

    return _procedure(6, body)


@intrinsic  # type: ignore[untyped-decorator]
def color_columns(
    _context: Any,
    _planes: Any,
    _plane_stride: Any,
    _luma_first: Any,
    _luma_weights: Any,
    _luma_taps: Any,
    _chroma_first: Any,
    _chroma_weights: Any,
    _chroma_taps: Any,
    _to_rgb: Any,
    _color: Any,
    _limits: Any,
    _has_color: Any,
    _out: Any,
    sample: Any,
) -> Any:
    """4 columns of 16 pixels to RGB: out[3 j + c, i] is colour c of pixel i of column j.

    Y, U and V of column j are sums over k < taps of weights[k, j] * plane[first[j] + k, :16]. All
    values are uint16, and the sums are of the upper halves of the products. The planes are
    `plane_stride` bytes apart, `first` is int64, and a row of weights has 16. Then
    rgb = clip(to_rgb @ (y, u, v, 1), 0, 1), and if `has_color` is not 0, clip(color @ (rgb, 1)) to
    the lower and upper `limits` of each colour. The matrices are (3, 4) float32, the limits (3, 2).
    `sample` is any value of the output's type: float32 stores the value, uint16 the bits of its
    float16, uint8 255 x the value, rounded, int16 its level among `GAMMA_LEVELS`.

    The function is long because an intrinsic has to name its many arguments twice.
    """

    def body(
        builder: Builder,
        planes: Value,
        plane_stride: Value,
        luma_first: Value,
        luma_weights: Value,
        luma_taps: Value,
        chroma_first: Value,
        chroma_weights: Value,
        chroma_taps: Value,
        to_rgb: Value,
        color: Value,
        limits: Value,
        has_color: Value,
        out: Value,
        _sample: Value,
    ) -> None:
        blue = builder.add(planes, plane_stride)
        red = builder.add(blue, plane_stride)
        (y,) = _mix_columns(builder, [planes], luma_first, luma_weights, luma_taps)
        u, v = _mix_columns(builder, [blue, red], chroma_first, chroma_weights, chroma_taps)
        plain = []
        for sums in zip(y, u, v, strict=True):
            yuv = [builder.uitofp(value, _FLOATS) for value in sums]
            plain.append(_clipped_affine(builder, to_rgb, yuv))
        rgb = _variables(builder, [value for pixel in plain for value in pixel])
        with builder.if_then(builder.icmp_signed("!=", has_color, has_color.type(0))):
            for j, pixel in enumerate(plain):
                for c, value in enumerate(_clipped_affine(builder, color, pixel, limits)):
                    builder.store(value, rgb[3 * j + c])
        for i, place in enumerate(rgb):
            value = _cast(builder, builder.load(place), sample)
            _store(builder, value, _element(builder, out, i, value.type))

    return _procedure(13, body, sample)


@intrinsic  # type: ignore[untyped-decorator]
def transpose(_context: Any, _source: Any, _out: Any, _out_stride: Any, sample: Any) -> Any:
    """out[j, i] = source[i, j] for 16 x 16 of the type of `sample`.

    The rows of `source` are next to each other; `out_stride` is in bytes.
    """
    return _transposition(sample, _store)


@intrinsic  # type: ignore[untyped-decorator]
def stream_transpose(_context: Any, _source: Any, _out: Any, _out_stride: Any, sample: Any) -> Any:
    """Like `transpose` for 4-byte types, past the caches. Each row of `out` is one cache line."""
    return _transposition(sample, _stream)


def _transposition(sample: Any, put: Callable[[Builder, Value, Value], None]) -> Any:
    def body(
        builder: Builder, source: Value, out: Value, out_stride: Value, _sample: Value
    ) -> None:
        vector = ir.VectorType(_TYPE_OF[sample], LANES)
        rows = [_load(builder, _element(builder, source, i, vector)) for i in range(LANES)]
        for i, row in enumerate(_transpose(builder, rows)):
            put(builder, row, _row(builder, out, out_stride, i, vector))

    return _procedure(3, body, sample)


@intrinsic  # type: ignore[untyped-decorator]
def stream_line(_context: Any, _source: Any, _out: Any) -> Any:
    """Copies 64 bytes from any address to a multiple of 64, past the caches.

    Other threads see the bytes in order after the next lock. Handing work over takes a lock.
    """

    def body(builder: Builder, source: Value, out: Value) -> None:
        value = _load(builder, _element(builder, source, 0, _FLOATS))
        _stream(builder, value, _element(builder, out, 0, _FLOATS))

    return _procedure(2, body)


def _mix_columns(
    builder: Builder, planes: list[Value], first: Value, weights: Value, taps: Value
) -> list[list[Value]]:
    """The sums of 4 columns of each plane; see `color_columns`."""
    sums = [_sums(builder, COLUMNS, LANES, taps) for _ in planes]
    starts = [builder.load(_element(builder, first, j, taps.type)) for j in range(COLUMNS)]
    with cgutils.for_range(builder, taps) as loop:
        for j, start in enumerate(starts):
            weight = _weight(builder, weights, loop.index, j)
            for plane, totals in zip(planes, sums, strict=True):
                column = builder.add(start, loop.index)
                _add_product(builder, totals[j], _element(builder, plane, column, _SHORTS), weight)
    return [[builder.load(total) for total in totals] for totals in sums]


def _sums(builder: Builder, number: int, lanes: int, taps: Value) -> list[Value]:
    """Variables for sums of the upper halves of `taps` products.

    Dropping the lower halves takes away half a step per tap on average, so the sums start from that
    value. The limit keeps the sums within 16 bits for any number of taps.
    """
    half, most = builder.lshr(taps, taps.type(1)), taps.type(100)
    half = builder.select(builder.icmp_signed("<", half, most), half, most)
    return _variables(builder, [_spread(builder, builder.trunc(half, _I16), lanes)] * number)


def _variables(builder: Builder, values: list[Value]) -> list[Value]:
    places = []
    for value in values:
        place: Value = cgutils.alloca_once(builder, value.type)  # type: ignore[no-untyped-call]
        builder.store(value, place)
        places.append(place)
    return places


def _weight(builder: Builder, weights: Value, row: Value, column: int) -> Value:
    """weights[row, column] of (taps, 16)."""
    index = builder.add(builder.mul(row, row.type(LANES)), row.type(column))
    return builder.load(_element(builder, weights, index, _I16))


def _add_product(builder: Builder, total: Value, place: Value, weight: Value) -> None:
    """Adds the upper halves of weight x the uint16 vector at a place."""
    value = _load(builder, place)
    lanes = value.type.count
    wide = ir.VectorType(_I32, lanes)
    factor = builder.zext(_spread(builder, weight, lanes), wide)
    product = builder.mul(builder.zext(value, wide), factor)
    upper = builder.trunc(builder.lshr(product, ir.Constant(wide, [16] * lanes)), value.type)
    builder.store(builder.add(builder.load(total), upper), total)


def _transpose(builder: Builder, rows: list[Value]) -> list[Value]:
    """The columns of 16 vectors of 16.

    First the 128-bit pieces of the registers are swapped: halves, and then quarters. Then pieces
    are interleaved; every CPU has an instruction for that.
    """
    rows = list(rows)
    piece = 128 // _WIDTH[rows[0].type.element]
    width = LANES // 2
    while width >= piece:
        first = [i if not i & width else i - width + LANES for i in range(LANES)]
        second = [i + width for i in first]
        for i in range(LANES):
            if not i & width:
                one, other = rows[i], rows[i + width]
                rows[i] = _shuffle(builder, one, other, first)
                rows[i + width] = _shuffle(builder, one, other, second)
        width //= 2
    half = piece // 2
    low = [base + i // 2 + LANES * (i % 2) for base in range(0, LANES, piece) for i in range(piece)]
    high = [i + half for i in low]
    for _ in range(half.bit_length()):
        mixed = []
        for base in range(0, LANES, piece):
            for i in range(base, base + half):
                one, other = rows[i], rows[i + half]
                mixed.append(_shuffle(builder, one, other, low))
                mixed.append(_shuffle(builder, one, other, high))
        rows = mixed
    return rows


def _clipped_affine(
    builder: Builder, matrix: Value, values: list[Value], limits: Value | None = None
) -> list[Value]:
    """clip(matrix @ (values, 1)) for a (3, 4) matrix at an address.

    The limits of each result are those at an address, (3, 2), or else 0 and 1.
    """
    low, high = ir.Constant(_FLOATS, [0.0] * LANES), ir.Constant(_FLOATS, [1.0] * LANES)
    results = []
    for i in range(3):
        factors = [
            _broadcast(builder, _element(builder, matrix, 4 * i + k, _F32)) for k in range(4)
        ]
        if limits is not None:
            low, high = (
                _broadcast(builder, _element(builder, limits, 2 * i + k, _F32)) for k in range(2)
            )
        total = factors[3]
        for value, factor in zip(values, factors[:3], strict=True):
            total = builder.fadd(total, builder.fmul(value, factor, flags=_FUSE), flags=_FUSE)
        total = builder.select(builder.fcmp_ordered(">", total, low), total, low)
        results.append(builder.select(builder.fcmp_ordered("<", total, high), total, high))
    return results


def _cast(builder: Builder, value: Value, sample: Any) -> Value:
    if sample == types.uint16:
        return _half_bits(builder, value)
    if sample == types.float32:
        return value
    most, element = (255, _I8) if sample == types.uint8 else (GAMMA_LEVELS - 1, _I16)
    scaled = builder.fmul(value, ir.Constant(_FLOATS, [float(most)] * LANES), flags=_FUSE)
    rounded = builder.fadd(scaled, ir.Constant(_FLOATS, [0.5] * LANES), flags=_FUSE)
    whole = builder.fptosi(rounded, ir.VectorType(_I32, LANES))
    return builder.trunc(whole, ir.VectorType(element, LANES))


def _half_bits(builder: Builder, value: Value) -> Value:
    """The float16 bits of floats that float16 can hold, rounded to nearest, ties to even.

    If the CPU has no instruction for it, the float is multiplied by 2**-112. It then has the
    exponent of the float16, and 13 more bits of fraction.
    """
    if _HAS_HALF:
        return builder.bitcast(builder.fptrunc(value, ir.VectorType(ir.HalfType(), LANES)), _SHORTS)
    integers = ir.VectorType(_I32, LANES)

    def constant(number: int) -> Value:
        return ir.Constant(integers, [number] * LANES)

    scaled = builder.fmul(value, ir.Constant(_FLOATS, [2.0**-112] * LANES))
    signed = builder.bitcast(scaled, integers)
    sign = builder.and_(builder.lshr(signed, constant(16)), constant(0x8000))
    bits = builder.and_(signed, constant(0x7FFFFFFF))
    odd = builder.and_(builder.lshr(bits, constant(13)), constant(1))
    rounded = builder.add(builder.add(bits, constant(0xFFF)), odd)
    half = builder.or_(builder.lshr(rounded, constant(13)), sign)
    return builder.trunc(half, ir.VectorType(_I16, LANES))


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


def _stream(builder: Builder, value: Value, pointer: Value) -> None:
    stored = builder.store(value, pointer)
    stored.align = LINE
    stored.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_I32, 1)]))


def _broadcast(builder: Builder, pointer: Value) -> Value:
    return _spread(builder, builder.load(pointer))


def _spread(builder: Builder, value: Value, lanes: int = LANES) -> Value:
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    single = builder.insert_element(undefined, value, ir.Constant(_I32, 0))
    return _shuffle(builder, single, undefined, [0] * lanes)


def _shuffle(builder: Builder, one: Value, other: Value, order: list[int]) -> Value:
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_I32, len(order)), order))
