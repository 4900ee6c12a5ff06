"""Storage's records as the API shows them."""

from __future__ import annotations

from typing import cast

from stepwell import wire
from stepwell_storage import records
from stepwell_tracker import schema

_MS_PER_S = 1_000


def experiment(record: records.Experiment) -> wire.Experiment:
    return wire.Experiment(
        experiment_id=record.experiment_id,
        number=record.number,
        name=record.name,
        description=record.description,
        tags=record.tags,
        lifecycle=cast(wire.Lifecycle, record.lifecycle),
        created_at=record.created_at,
        updated_at=record.updated_at,
        run_count=record.run_count,
    )


def run(record: records.Run) -> wire.Run:
    return wire.Run(
        run_id=record.run_id,
        experiment_id=record.experiment_id,
        name=record.name,
        description=record.description,
        user_id=record.user_id,
        parent_run_id=record.parent_run_id,
        status=cast(wire.Status, record.status),
        tags=record.tags,
        params=record.params,
        metrics={key: wire.to_value(value) for key, value in record.metrics.items()},
        start_time=record.start_time,
        end_time=record.end_time,
        duration_seconds=duration_seconds(record),
        heartbeat_at=record.heartbeat_at,
        lifecycle=cast(wire.Lifecycle, record.lifecycle),
        stop_requested=record.stop_requested,
        truncated=record.truncated,
        writers=record.writers,
    )


def duration_seconds(record: records.Run) -> float | None:
    """From start to end; None while there is no end."""
    if record.end_time is None:
        return None
    return (record.end_time - record.start_time) / _MS_PER_S


def series(stats: records.SeriesStats) -> schema.SeriesSummary:
    return schema.SeriesSummary(
        key=stats.key,
        count=stats.count,
        exact=stats.exact,
        last=wire.to_value(stats.last),
        last_step=stats.last_step,
        last_timestamp=stats.last_timestamp,
        min=None if stats.min is None else wire.to_value(stats.min),
        min_step=stats.min_step,
        max=None if stats.max is None else wire.to_value(stats.max),
        max_step=stats.max_step,
    )
