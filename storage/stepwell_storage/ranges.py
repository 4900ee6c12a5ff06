"""A comparison with a number -> the int64 that satisfy it, as disjoint inclusive ranges.

All numbers of the database are int64: counts and times as they are, metric values and the numbers
of parameters in the order-preserving form of :mod:`stepwell_storage.points`.  So every comparison
becomes a test of membership in a few ranges.  Counts and times are compared exactly, whatever
somebody wrote; doubles with the nearest double, which the same number becomes when it is logged.

``!=`` is the complement of ``=`` and is left to the caller.  NaN equals NaN and nothing else, and
is neither less nor greater than anything.  -0.0 and 0.0 are equal.
"""

import math
from collections.abc import Callable
from typing import Final, Literal

from stepwell_storage.points import ordered

Number = int | float
Ordering = Literal["=", "<", "<=", ">", ">="]
Range = tuple[int, int]

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
NAN: Final = ordered(math.nan)
_LEAST: Final = ordered(-math.inf)
_GREATEST: Final = ordered(math.inf)


def of_doubles(operator: Ordering, number: Number) -> list[Range]:
    """The ordered integers of the doubles ``x`` for which ``x operator number`` holds."""
    if number != number:
        return [(NAN, NAN)] if operator == "=" else []
    nearest, beyond = _nearest(number)
    # -0.0 and 0.0 stand beside each other in the order, and count as one.
    low, high = (-1, 0) if nearest == 0 else (ordered(nearest), ordered(nearest))
    if beyond < 0:  # -inf < number < every other double
        low, high = high + 1, high
    elif beyond > 0:
        low, high = low, low - 1
    return _ranges(operator, (low, high), (_LEAST, _GREATEST))


def of_integers(operator: Ordering, number: Number) -> list[Range]:
    """The int64 ``x`` for which ``x operator number`` holds."""
    return _by_search(operator, number, lambda x: x)


def of_seconds(operator: Ordering, number: Number) -> list[Range]:
    """The milliseconds ``x`` for which ``x / 1000 operator number`` holds, the quotient rounded
    to a double: what a reader of ``duration_seconds`` sees is what is compared."""
    return _by_search(operator, number, lambda x: x / 1000)


def _nearest(number: Number) -> tuple[float, int]:
    """The double nearest to a number; the sign of an integer beyond all doubles, otherwise 0."""
    try:
        return float(number), 0
    except OverflowError:
        return (math.inf, 1) if number > 0 else (-math.inf, -1)


def _by_search(operator: Ordering, number: Number, value: Callable[[int], Number]) -> list[Range]:
    """``value`` never falls: the first int64 at or above ``number``, and the last not above it."""
    if number != number:
        return []
    at_least = _first(lambda x: value(x) >= number)
    above = _first(lambda x: value(x) > number)
    return _ranges(operator, (at_least, above - 1), (INT64_MIN, INT64_MAX))


def _first(holds: Callable[[int], bool]) -> int:
    """The least int64 for which a rising condition holds; one past all where it never does."""
    low, high = INT64_MIN, INT64_MAX + 1
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _ranges(operator: Ordering, equal: Range, every: Range) -> list[Range]:
    """Below, at or above the stretch ``equal``, which is empty where it ends before it begins."""
    (low, high), (least, greatest) = equal, every
    found = {
        "=": (low, high),
        "<": (least, low - 1),
        "<=": (least, high),
        ">": (high + 1, greatest),
        ">=": (low, greatest),
    }[operator]
    return [found] if found[0] <= found[1] else []
