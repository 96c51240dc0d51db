# SPDX-License-Identifier: Apache-2.0
"""What instructions compute that NumPy has no operator for. Values are unsigned arrays."""

from typing import Any

import numpy as np

from .text import PtxError

Values = np.ndarray[Any, np.dtype[Any]]
_U8, _U32, _U64 = np.uint8, np.uint32, np.uint64
_UNSIGNED: dict[int, Any] = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
_SIGNED: dict[int, Any] = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}


class Arithmetic:
    """Methods that translated instructions call."""

    def permute(self, x: Values, y: Values, selector: Values) -> Values:
        """prmt: each half byte of the selector picks one of 8 bytes, or (bit 3) its sign."""
        both = _both(x, y)
        result = np.zeros(both.shape, _U32)
        for k in range(4):
            pick = (selector >> _U32(4 * k)) & _U32(15)
            byte = (both >> ((pick & _U32(7)) << _U32(3)).astype(_U64)) & _U64(255)
            sign = np.where(byte >> _U64(7), _U32(255), _U32(0))
            byte = np.where(pick >> _U32(3), sign, byte.astype(_U32))
            result = result | (byte << _U32(8 * k))
        return result

    def permute_mode(self, x: Values, y: Values, selector: Values, mode: str) -> Values:
        """prmt with a mode: the two lowest bits of the selector pick one of four patterns."""
        rows = {
            "f4e": (0x3210, 0x4321, 0x5432, 0x6543),
            "b4e": (0x5670, 0x6701, 0x7012, 0x0123),
            "rc8": (0x0000, 0x1111, 0x2222, 0x3333),
            "ecl": (0x3210, 0x3211, 0x3222, 0x3333),
            "ecr": (0x0000, 0x1110, 0x2210, 0x3210),
            "rc16": (0x1010, 0x3232, 0x1010, 0x3232),
        }[mode]
        return self.permute(x, y, np.array(rows, _U32)[selector & _U32(3)])

    def funnel(self, low: Values, high: Values, count: Values, left: bool, clamp: bool) -> Values:
        count = (np.minimum(count, _U32(32)) if clamp else count & _U32(31)).astype(_U64)
        both = _both(low, high)
        if left:
            return ((both << count) >> _U64(32)).astype(_U32)
        return (both >> count).astype(_U32)

    def sum_of_bytes(self, x: Values) -> Values:
        pairs = (x & _U32(0x00FF00FF)) + ((x >> _U32(8)) & _U32(0x00FF00FF))
        return (pairs & _U32(0xFFFF)) + (pairs >> _U32(16))

    def dot(self, x: Values, y: Values, x_signed: bool, y_signed: bool) -> Values:
        total: Any = _U32(0)
        for k in range(4):
            pair = []
            for value, signed in ((x, x_signed), (y, y_signed)):
                byte = np.asarray(value >> _U32(8 * k)).astype(_U8)
                wide = byte.view(np.int8).astype(np.int32).view(_U32) if signed else byte
                pair.append(np.asarray(wide).astype(_U32))
            total = total + pair[0] * pair[1]
        return total

    def high(self, x: Values, y: Values, bits: int, signed: bool) -> Values:
        if bits < 64:
            kind = _SIGNED[2 * bits] if signed else _UNSIGNED[2 * bits]
            if signed:
                x, y = x.view(_SIGNED[bits]), y.view(_SIGNED[bits])
            product = x.astype(kind) * y.astype(kind)
            return (product >> kind(bits)).astype(_UNSIGNED[bits])
        mask, half = _U64(0xFFFFFFFF), _U64(32)
        x0, x1, y0, y1 = x & mask, x >> half, y & mask, y >> half
        middle = x1 * y0 + (x0 * y0 >> half)
        other = x0 * y1 + (middle & mask)
        product = x1 * y1 + (middle >> half) + (other >> half)
        if signed:
            product = product - np.where(x >> _U64(63), y, _U64(0))
            product = product - np.where(y >> _U64(63), x, _U64(0))
        return product

    def quotient(self, x: Values, y: Values, bits: int, signed: bool) -> Values:
        return self._divide(x, y, bits, signed)[0]

    def remainder(self, x: Values, y: Values, bits: int, signed: bool) -> Values:
        return self._divide(x, y, bits, signed)[1]

    def _divide(self, x: Values, y: Values, bits: int, signed: bool) -> tuple[Values, Values]:
        if not np.all(y):
            raise PtxError("division by zero")
        if not signed:
            return x // y, x % y
        top = _UNSIGNED[bits](bits - 1)
        x_negative, y_negative = (x >> top) != 0, (y >> top) != 0
        x, y = np.where(x_negative, -x, x), np.where(y_negative, -y, y)
        quotient, remainder = x // y, x % y
        quotient = np.where(x_negative != y_negative, -quotient, quotient)
        return quotient, np.where(x_negative, -remainder, remainder)

    def absolute(self, x: Values, bits: int, signed: bool) -> Values:
        return np.where(x >> _UNSIGNED[bits](bits - 1), -x, x)

    def population(self, x: Values, bits: int, signed: bool) -> Values:
        return np.bitwise_count(x).astype(_U32)

    def leading_zeros(self, x: Values, bits: int, signed: bool) -> Values:
        shift = 1
        while shift < bits:
            x = x | (x >> _UNSIGNED[bits](shift))
            shift *= 2
        return _U32(bits) - np.bitwise_count(x).astype(_U32)

    def reversed_bits(self, x: Values, bits: int, signed: bool) -> Values:
        kind = _UNSIGNED[bits]
        for shift, mask in ((1, 0x55), (2, 0x33), (4, 0x0F)):
            wide = kind(int.from_bytes(bytes([mask]) * (bits // 8), "little"))
            x = ((x >> kind(shift)) & wide) | ((x & wide) << kind(shift))
        return x.byteswap()

    def find_bit(self, x: Values, bits: int, signed: bool) -> Values:
        if signed:
            x = np.where(x >> _UNSIGNED[bits](bits - 1), ~x, x)
        return _U32(bits - 1) - self.leading_zeros(x, bits, signed)

    def find_shift(self, x: Values, bits: int, signed: bool) -> Values:
        found = self.find_bit(x, bits, signed)
        return np.where(found == _U32(0xFFFFFFFF), found, _U32(bits - 1) - found)

    def extract(self, x: Values, start: Values, length: Values, bits: int, signed: bool) -> Values:
        kind = _UNSIGNED[bits]
        start, length = (np.asarray(v & _U32(255)).astype(kind) for v in (start, length))
        mask = (kind(1) << length) - kind(1)
        field = (x >> start) & mask
        if signed:
            last = np.minimum(start + length - kind(1), kind(bits - 1))
            sign = np.where(length == 0, kind(0), (x >> last) & kind(1))
            field = np.where(sign, field | ~mask, field)
            beyond = (start >= kind(bits)) & (sign != 0)
            field = np.where(beyond, ~kind(0), field)
            # Bits above the register are copies of its sign.
            short = np.where(start < kind(bits), kind(bits) - start, kind(0))
            fill = (sign != 0) & (start + length > kind(bits))
            field = np.where(fill, field | ~((kind(1) << short) - kind(1)), field)
        return field

    def insert(self, x: Values, y: Values, start: Values, length: Values, bits: int) -> Values:
        kind = _UNSIGNED[bits]
        start, length = (np.asarray(v & _U32(255)).astype(kind) for v in (start, length))
        mask = ((kind(1) << length) - kind(1)) << start
        return (y & ~mask) | ((x << start) & mask)

    def bit_mask(self, start: Values, length: Values, clamp: bool) -> Values:
        if clamp:
            start, length = np.minimum(start, _U32(32)), np.minimum(length, _U32(32))
        else:
            start, length = start & _U32(31), length & _U32(31)
        return ((_U32(1) << length) - _U32(1)) << start


def _both(low: Values, high: Values) -> Values:
    return np.asarray(low).astype(_U64) | (np.asarray(high).astype(_U64) << _U64(32))
