"""Where the row of a key in a run stands: one integer for both.

The rows of ``param``, ``tag`` and ``series`` are stored by ``place(key, run)``, so that those of
one key lie side by side in the order of their runs.
"""

from typing import Final, TypeVar

from stepwell_storage.points import Ints

RUN_BITS: Final = 36
"""Room for 68 billion runs of a tenant and 134 million keys."""

Number = TypeVar("Number", int, Ints)


def place(key: Number, run: Number | int) -> Number:
    """The id of a row, or of each row of a column of keys and one of runs."""
    return (key << RUN_BITS) | run


def places_of(key: int) -> tuple[int, int]:
    """The first and the last id that a row of this key can have."""
    return key << RUN_BITS, (key + 1 << RUN_BITS) - 1


def key_and_run(place: Number) -> tuple[Number, Number]:
    """What :func:`place` was made of."""
    return place >> RUN_BITS, place & (1 << RUN_BITS) - 1
