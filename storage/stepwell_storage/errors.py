"""What can go wrong in storage; each kind is something a caller can act on.

StorageError
├── NotFound        no such thing in this tenant
│   └── Purged          there was a run of this id; its id is never used again
├── Conflict        the state of things forbids it
├── Invalid         a value can never be stored: the message says which and why
│   ├── LimitExceeded   a bound of this store was met
│   └── BadCursor       a cursor that this store did not make for this question
├── Busy            too much is queued; try again shortly
├── Full            the disk is full, or the file cannot be written now
├── Unreadable      the disk did not give what was asked of it
├── Corrupt         damaged data, with its place
├── Unsupported     a file of a newer version, or an environment that cannot work
└── Closed          the store or tenant was closed
"""

import contextlib
from collections.abc import Iterator


class StorageError(Exception):
    """Anything that storage raises on purpose."""


class NotFound(StorageError):
    """No such thing in this tenant."""


class Purged(NotFound):
    """The run was deleted for good; its id is never used again."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id} was deleted for good")


class Conflict(StorageError):
    """The state of things forbids it.  ``existing`` is the id of what stands in the way."""

    def __init__(self, message: str, existing: str | None = None) -> None:
        super().__init__(message)
        self.existing = existing


class Invalid(StorageError):
    """A value that can never be stored.  ``path`` names the field."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


class LimitExceeded(Invalid):
    """A bound of this store was met.  ``path`` names the field, the message the bound."""


class BadCursor(Invalid):
    """A cursor that is damaged, or that belongs to another question.  ``path`` is ``cursor``."""

    def __init__(self, message: str = "the cursor is damaged, or was made by another call") -> None:
        super().__init__("cursor", message)


class Busy(StorageError):
    """Too much is queued.  Try again in ``retry_after_s`` seconds."""

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Full(StorageError):
    """The disk is full, or the file cannot be written now; nothing of the request was kept."""


class Unreadable(StorageError):
    """The disk did not give what was asked of it, now; what lies there may be whole."""


class Corrupt(StorageError):
    """Damaged data.  ``place`` says where, as far as it is known: tenant, run, series, chunk."""

    def __init__(self, reason: str, **place: object) -> None:
        where = ", ".join(f"{name} {value}" for name, value in place.items())
        super().__init__(f"{reason} ({where})" if where else reason)
        self.reason = reason
        self.place = place


class Unsupported(StorageError):
    """A file of a newer version, or an environment that cannot work; the message advises."""


class Closed(StorageError):
    """The store or tenant was closed."""


@contextlib.contextmanager
def contradictions(**place: object) -> Iterator[None]:
    """What Python raises over rows that do not belong together, as damage of that place."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError) as error:
        found = f"{type(error).__name__}: {error}"
        raise Corrupt(f"what is stored contradicts itself: {found}", **place) from error
