"""Where a SunSpec meter keeps its power: the chain of models in its registers, pure.

Source: SunSpec Alliance information models 201-204 (integers and scale factors) and 211-214 (floats).
"""

import struct
from collections.abc import Sequence
from math import copysign
from typing import NamedTuple

from meter.source import Measured

BASES = (40000, 50000, 0)
"""Where the chain may begin."""
MARK = (0x5375, 0x6E53)
"""The registers it begins with: "SunS"."""
HEADER = 2
"""A model begins with its number and its length."""
END = 0xFFFF
MODELS_MAX = 100
"""A chain that is longer is none."""

_INTEGER = range(201, 205)
_FLOAT = range(211, 215)
_PHASES = {1: 1, 2: 2, 3: 3, 4: 3}
"""How many, by the model number's last digit: single, split, wye, delta."""
_NOT_THERE = -32768
_SCALE_MAX = 10


class Model(NamedTuple):
    """One model of the chain."""

    number: int
    start: int
    """Its first register."""
    length: int
    """Without its header."""

    @property
    def is_meter(self) -> bool:
        """Whether it has a meter's power."""
        return self.number in _INTEGER or self.number in _FLOAT

    @property
    def wanted(self) -> int:
        """How many registers from its start hold what is read."""
        return 23 if self.number in _INTEGER else 36


def measured(model: Model, registers: Sequence[int]) -> Measured | None:
    """The total power and the phases' currents; None where the meter marks its power as not known.

    Args:
        model: a meter.
        registers: its first `wanted` ones.
    """
    phases = _PHASES[model.number % 10]
    if model.number in _FLOAT:
        power_w = _float(registers, 28)
        powers = [_float(registers, 30 + 2 * i) for i in range(phases)]
        currents = [_float(registers, 4 + 2 * i) for i in range(phases)]
    else:
        power_w = _scaled(registers, 18, 22)
        powers = [_scaled(registers, 19 + i, 22) for i in range(phases)]
        currents = [_scaled(registers, 3 + i, 6) for i in range(phases)]
    if power_w is None:
        return None
    # Some meters give a current without a sign: it has that of its phase's power, or of all.
    signs = [power_w if power is None else power for power in powers]
    known = [
        copysign(current, sign) for current, sign in zip(currents, signs, strict=True) if current is not None
    ]
    return Measured(power_w, tuple(known) if len(known) == phases else ())


def _scaled(registers: Sequence[int], at: int, scale_at: int) -> float | None:
    value, scale = (_signed(registers[i]) for i in (at, scale_at))
    if value == _NOT_THERE or abs(scale) > _SCALE_MAX:
        return None
    # Not value * 10**scale: 2304 * 10**-1 is 230.4, and not 230.40000000000003.
    return float(value * 10**scale) if scale >= 0 else value / 10**-scale


def _signed(register: int) -> int:
    return register - 0x10000 if register >= 0x8000 else register  # noqa: PLR2004 - 16 bits


def _float(registers: Sequence[int], at: int) -> float | None:
    (value,) = struct.unpack(">f", struct.pack(">HH", *registers[at : at + 2]))
    return float(f"{value:.7g}") if abs(value) < float("inf") else None  # a NaN is not smaller either
