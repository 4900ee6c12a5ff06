"""Checksums by which two copies of the same runs are compared, whatever order they come in.

A checksum is a sum modulo 2**64 of one hash for each thing, so parts may be added in any order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from stepwell_storage.points import Points, canonical
from stepwell_storage.records import Experiment, Model, ModelVersion, RegisteredModel, Run

MASK: Final = 2**64 - 1
_U64 = np.dtype("<u8")
_GOLDEN = np.uint64(0x9E37_79B9_7F4A_7C15)
_MIX = (np.uint64(0xBF58_476D_1CE4_E5B9), np.uint64(0x94D0_49BB_1331_11EB))


def of(*what: object) -> int:
    """Of one thing: its fields, in JSON's types."""
    text = json.dumps(what, ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def total(hashes: Iterable[int]) -> int:
    return sum(hashes) & MASK


def of_points(run_id: str, key: str, points: Points) -> int:
    """The sum over the points of one series, or of some of them: each counts, in any order."""
    hashes = _mixed(points.steps.view(_U64) + np.uint64(of(run_id, key)))
    hashes = _mixed(hashes ^ points.timestamps.view(_U64))
    hashes = _mixed(hashes ^ canonical(points.values).view(_U64))
    return int(hashes.sum(dtype=_U64))


def _mixed(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Every bit of a hash depends on every bit of what went in (splitmix64)."""
    hashes = hashes + _GOLDEN
    hashes = (hashes ^ (hashes >> np.uint64(30))) * _MIX[0]
    hashes = (hashes ^ (hashes >> np.uint64(27))) * _MIX[1]
    return hashes ^ (hashes >> np.uint64(31))


def of_experiment(experiment: Experiment) -> int:
    """Without its id here and its location, which an import may have to change."""
    e = experiment
    return of(e.number, e.name, e.description, e.lifecycle, e.created_at, e.updated_at,
              sorted(e.tags.items()))  # fmt: skip


def of_run(run: Run) -> int:
    """Of all but its points."""
    r = run
    fields = (r.run_id, r.experiment_number, r.name, r.description, r.user_id, r.parent_run_id)
    times = (r.status, r.start_time, r.end_time, r.lifecycle)
    return of(fields, times, of_params(run), of_tags(run), of_links(run))


def of_params(run: Run) -> int:
    return total(of(run.run_id, *item) for item in run.params.items())


def of_tags(run: Run) -> int:
    return total(of(run.run_id, *item) for item in run.tags.items())


def of_links(run: Run) -> int:
    """The datasets and models of a run."""
    datasets = total(
        of(run.run_id, _dataset(use.dataset), sorted(use.tags.items())) for use in run.datasets
    )
    return (datasets + total(of(run.run_id, *use) for use in run.models)) & MASK


def _dataset(dataset: object) -> list[str | None]:
    names = ("name", "digest", "source_type", "source", "schema", "profile")
    return [getattr(dataset, name) for name in names]


def of_model(model: Model, *, deleted: bool) -> int:
    m = model
    fields = (m.model_id, m.experiment_number, m.name, m.model_type, m.source_run_id, m.status)
    times = (m.status_message, m.created_at, m.updated_at, deleted)
    metrics = total(of(x.key, repr(x.value), *x[2:]) for x in m.metrics)
    return of(fields, times, sorted(m.params.items()), sorted(m.tags.items()), metrics)


def of_registered(model: RegisteredModel) -> int:
    m = model
    return of(m.name, m.description or "", m.created_at, m.updated_at,
              sorted(m.tags.items()), sorted(m.aliases.items()))  # fmt: skip


def of_version(version: ModelVersion) -> int:
    """Without where its files lie, which an import may have to change."""
    v = version
    return of(v.name, v.version, v.description or "", v.user_id, v.stage, v.source, v.run_id,
              v.run_link, v.created_at, v.updated_at, sorted(v.tags.items()))  # fmt: skip
