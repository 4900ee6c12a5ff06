"""What an import reads from, whatever form the other tracker keeps its data in.

A source hands out storage's own records, with its own numbers of experiments.  Its calls block;
one thread at a time uses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from stepwell_storage.points import Floats, Points
from stepwell_storage.records import Experiment, Model, ModelVersion, RegisteredModel, Run
from stepwell_tracker.porting.local_files import SourceFile

LARGEST: Final = 1.7976931348623157e308
"""What MLflow's databases hold where an infinity was logged."""


class SourceError(Exception):
    """The source cannot be read at all, or not any further; the message advises."""

    def __init__(self, message: str, *, answers: bool = True) -> None:
        super().__init__(message)
        self.answers = answers
        """False where it is a server's, and none is there."""


class Damaged(Exception):
    """A run (or model) of the source holds what no store could have taken in.  Others go on."""


@dataclass(frozen=True, slots=True)
class Totals:
    """For the progress alone: a source that must be read whole to know them says None."""

    runs: int | None
    points: int | None


@dataclass(slots=True)
class SourceRun:
    """``problem`` says why the rest is not to be trusted."""

    run: Run
    artifact_uri: str = ""
    problem: str | None = None


@dataclass(slots=True)
class SourceModel:
    model: Model
    deleted: bool = False
    artifact_uri: str = ""


class Source(Protocol):
    name: str
    """As the report shows it: without credentials."""
    problems: list[str]
    """What of it cannot be read, beside runs, as far as it was read by now: each is left out."""

    def totals(self) -> Totals: ...
    def experiments(self) -> list[Experiment]: ...
    def runs(self) -> Iterator[SourceRun]: ...
    def points(self, run: Run) -> Iterator[tuple[str, Points]]:
        """Pieces of bounded size, each point once.  Raises Damaged."""

    def models(self) -> Iterator[SourceModel]: ...
    def registered(self) -> Iterator[tuple[RegisteredModel, list[ModelVersion]]]:
        """Registered models, each with its versions, whose location is as the source has it."""

    def has_files(self, uri: str) -> bool:
        """Whether files at such a place can be read from here."""

    def files(self, uri: str) -> Iterator[SourceFile]:
        """Every file below the place of a run's or model's files.  Raises Elsewhere."""

    def left_out(self) -> Mapping[str, int]:
        """What the source holds that is not imported, by name."""

    def close(self) -> None: ...


def points_of(
    key: str, steps: Sequence[object], timestamps: Sequence[object], values: Sequence[object]
) -> Points:
    """Rows of one key as they were read.

    Raises Damaged where a step or timestamp is no 64-bit integer, or a value no number.
    """
    if not set(map(type, steps)) | set(map(type, timestamps)) <= {int}:
        raise Damaged(f"a step or timestamp of metric {key!r} is no integer")
    if not set(map(type, values)) <= {int, float}:
        raise Damaged(f"a value of metric {key!r} is no number")
    try:
        return Points.of(steps, timestamps, values)  # type: ignore[arg-type]  # checked above
    except OverflowError:
        raise Damaged(f"a number of metric {key!r} is out of range") from None


def infinities(values: Floats) -> Floats:
    """With infinities where MLflow put the largest number in their place."""
    return np.where(np.abs(values) == LARGEST, np.copysign(np.inf, values), values)
