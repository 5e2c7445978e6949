"""QParams: how codes stand for real numbers, `r = S (q - Z)` (eq. 1), and the border between the two."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from unfloat.spec.errors import NumericDomainError
from unfloat.spec.fixedpoint import round_half_away, round_to_int
from unfloat.spec.record import Record

STORAGE: dict[str, np.dtype[Any]] = {
    "int8": np.dtype(np.int8),
    "uint8": np.dtype(np.uint8),
    "int16": np.dtype(np.int16),
}
BITS_MIN, BITS_MAX = 2, 8
WIDE_BITS = 16  # of int16 codes, whose zero point is 0
TINY = 2.0**-126  # the smallest normal float32: a scale below it would lose bits
LARGEST = (2 - 2.0**-23) * 2.0**127  # float32; NumPy would take longer to say these two than to read a network


def float32(x: float) -> float:
    """The nearest float32, as a Python float."""
    return float(np.float32(x))


class QParams(Record):
    """Scale and zero point of one array of codes.

    Attributes:
        scale: float32 values, one, or one a channel along `axis`.
        zero_point: The code of real 0, of the same type as the codes; 0 for "int16".
        dtype: Storage, "int8", "uint8" or "int16".
        bits: 2 to 8, 16 for "int16"; the codes use the low `bits` of the storage's range.
        axis: The channel axis of `scale`, or None per tensor.
        narrow: True for weights: the lowest code is never used (paper, section 3).
    """

    scale: tuple[float, ...]
    zero_point: int = 0
    dtype: str = "int8"
    bits: int = 8
    axis: int | None = None
    narrow: bool = False

    def __post_init__(self) -> None:
        """Refuse what the arithmetic cannot hold."""
        wide = self.dtype == "int16"
        fits = self.bits == WIDE_BITS if wide else BITS_MIN <= self.bits <= BITS_MAX
        if self.dtype not in STORAGE or not fits:
            required = "codes must be int8 or uint8 of 2 to 8 bits, or int16 of 16"
            raise NumericDomainError(f"{required}, found {self.dtype} of {self.bits}")
        if wide and (self.zero_point != 0 or self.narrow):
            raise NumericDomainError(f"int16 codes have the zero point 0 and are not narrow, found {self.zero_point}")
        self._check_scales()
        if not self.qmin <= self.zero_point <= self.qmax:
            raise NumericDomainError(
                f"a zero point must be a code, {self.qmin} to {self.qmax}, found {self.zero_point}"
            )

    def _check_scales(self) -> None:
        if self.axis is None and isinstance(self.scale, tuple) and len(self.scale) == 1:
            scale = self.scale[0]  # of most labels, and an array costs more than all else
            if isinstance(scale, float) and 0 < scale <= LARGEST and float32(scale) == scale:
                return
        scales = self.exact
        if scales.ndim != 1 or not scales.size or (self.axis is None and scales.size != 1):
            raise NumericDomainError(
                f"a scale per tensor is one number, per channel one for each; found {scales.size}, axis {self.axis}"
            )
        if not (scales.min() > 0 and scales.max() <= LARGEST and (scales.astype(np.float32) == scales).all()):
            raise NumericDomainError(
                f"a scale must be a positive, finite float32, found {scales.min()} to {scales.max()}"
            )

    @classmethod
    def per_channel(
        cls, scales: np.ndarray, zero_point: int, dtype: str, bits: int, axis: int, narrow: bool
    ) -> QParams:
        """The QParams of these scales, an array in one dimension, which `exact` need not make again."""
        label = cls.__new__(cls)
        label.__dict__["exact"] = scales.astype(np.float64)
        QParams.__init__(label, tuple(scales.tolist()), zero_point, dtype, bits, axis, narrow)
        return label

    @cached_property
    def exact(self) -> np.ndarray:
        """The scales as float64, in one dimension."""
        return np.asarray(self.scale, np.float64)

    @property
    def qmin(self) -> int:
        """The lowest code."""
        return (0 if self.dtype == "uint8" else -(2 ** (self.bits - 1))) + int(self.narrow)

    @property
    def qmax(self) -> int:
        """The highest code."""
        return 2**self.bits - 1 if self.dtype == "uint8" else 2 ** (self.bits - 1) - 1

    @property
    def window(self) -> tuple[float, float]:
        """The real values of the outermost codes, of a label per tensor: the range that gives this label again.

        The lowest int16 code is left out, as `qparams_from_range` leaves it out.
        """
        low = -self.qmax if self.dtype == "int16" else self.qmin
        return self.scale[0] * (low - self.zero_point), self.scale[0] * (self.qmax - self.zero_point)

    def scales(self, rank: int = 1) -> np.ndarray:
        """The scales as float32, shaped to broadcast along `axis` of an array of `rank` dimensions."""
        scales = np.asarray(self.scale, np.float32)
        return scales if self.axis is None else scales.reshape([-1 if d == self.axis else 1 for d in range(rank)])


INDEX = QParams((1.0,), 0, "int16", WIDE_BITS)  # of plain numbers: which cell of an axis


def positive_scale(x: float) -> float:
    """The nearest float32 to `x`, at least the smallest normal one."""
    return max(float32(x), TINY)


def qparams_from_range(
    low: float, high: float, dtype: str = "int8", bits: int = 8, *, narrow: bool = False, least_scale: float = 0.0
) -> QParams:
    """Affine QParams whose window covers [low, high] and 0 (eq. 2 to 4; gemmlowp's and TFLite's rule).

    Zero is widened into the range and then hit exactly, because padding writes it everywhere. The zero point comes from
    the end whose rounding error is smaller. A range of nothing takes S = 1, Z = 0. int16 codes are symmetric, as
    TFLite's are: the greater magnitude is 32767 steps (eq. 37).

    Args:
        low: The smallest real value; 0 where it is positive.
        high: The largest real value; 0 where it is negative.
        dtype: Storage of the codes.
        bits: 2 to 8; 16 for "int16".
        narrow: Leave out the lowest code (weights).
        least_scale: A lower bound for the scale.

    Raises:
        NumericDomainError: An end is not finite, or low > high.
    """
    if not (np.isfinite(low) and np.isfinite(high)) or low > high:
        raise NumericDomainError(
            f"a range must be finite and ordered, found [{low}, {high}]: look for NaN or infinite activations"
        )
    nothing = QParams((1.0,), int(narrow and dtype == "uint8"), dtype, bits, narrow=narrow)
    qmin, qmax = nothing.qmin, nothing.qmax
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high and least_scale == 0:
        return nothing
    if dtype == "int16":
        return QParams((positive_scale(max(max(-low, high) / qmax, least_scale)),), 0, dtype, bits)
    scale = positive_scale(max((high - low) / (qmax - qmin), least_scale))
    from_low, from_high = qmin - low / scale, qmax - high / scale
    low_error, high_error = abs(qmin) + abs(low / scale), abs(qmax) + abs(high / scale)
    zero_point = round_to_int(from_low if low_error < high_error else from_high)
    return QParams((scale,), min(max(zero_point, qmin), qmax), dtype, bits, narrow=narrow)


def quantize(x: np.ndarray, qparams: QParams) -> np.ndarray:
    """`q = clamp(round_half_away(x / S) + Z)`: the border into integers (eq. 5).

    Args:
        x: float32; the division is IEEE float32, never a product with 1/S. Infinities saturate.
        qparams: Scale, zero point and code range.

    Raises:
        NumericDomainError: `x` holds a NaN.
    """
    x = np.asarray(x, np.float32)
    if np.isnan(x).any():
        raise NumericDomainError("cannot quantize NaN: the input must hold numbers")
    with np.errstate(over="ignore"):  # a quotient past float32 is an infinity, and saturates
        steps = round_half_away(x / qparams.scales(x.ndim))
    low, high = qparams.qmin - qparams.zero_point, qparams.qmax - qparams.zero_point
    codes = np.clip(steps, low, high).astype(np.int32) + qparams.zero_point
    return codes.astype(STORAGE[qparams.dtype])


def stray_codes(codes: np.ndarray, qparams: QParams) -> str:
    """What codes a label requires and which were found, in words; "" where it allows them all.

    Others void what is proved of accumulators. Codes that their storage cannot hold are not looked for.
    """
    low, high, ends = qparams.qmin, qparams.qmax, np.iinfo(codes.dtype)
    least = low if low <= ends.min or not codes.size else int(codes.min())
    greatest = high if high >= ends.max or not codes.size else int(codes.max())
    fits = low <= least and greatest <= high
    return "" if fits else f"codes in [{low}, {high}], found [{least}, {greatest}]"


def dequantize(codes: np.ndarray, qparams: QParams) -> np.ndarray:
    """`r = S (q - Z)` in float32 (eq. 1): the border out of integers."""
    steps = codes.astype(np.int32) - qparams.zero_point
    return steps.astype(np.float32) * qparams.scales(codes.ndim)


def clamp_code(bound: float, qparams: QParams) -> int:
    """The code at which a real clamp bound lies: `Z + round_half_away(float32(bound / S))`, saturated (eq. 6)."""
    if np.isinf(bound):
        return qparams.qmax if bound > 0 else qparams.qmin
    with np.errstate(over="ignore"):
        quotient = np.float32(bound) / np.float32(qparams.scale[0])
    steps = round_to_int(min(max(float(quotient), -(2.0**24)), 2.0**24))
    return min(max(qparams.zero_point + steps, qparams.qmin), qparams.qmax)
