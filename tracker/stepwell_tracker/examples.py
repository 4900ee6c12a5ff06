"""One example of every Struct of the API: /openapi.json shows them, and the tests send them."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from stepwell import wire
from stepwell_tracker import schema

_RUN: Final = "018d9c4230808f13be8df00000000000"
_EXPERIMENT: Final = "3f1f4ac7-6a0d-4a52-9d5e-1f4e35f7a0c1"
_START: Final = 1707723600000
_END: Final = 1707723942500
_POINTS: Final = [schema.Point(0, _START, 0.93), schema.Point(15, _START + 60_000, 0.342)]

_EXPERIMENT_SHOWN = wire.Experiment(
    experiment_id=_EXPERIMENT,
    number=1,
    name="fraud-detection-v3",
    description="",
    tags={"team": "risk"},
    lifecycle="active",
    created_at=_START,
    updated_at=_START,
    run_count=1,
)
_RUN_SHOWN = wire.Run(
    run_id=_RUN,
    experiment_id=_EXPERIMENT,
    name="xgboost-baseline",
    description="",
    user_id="alice@acme.com",
    parent_run_id=None,
    status="finished",
    tags={"stage": "baseline"},
    params={"learning_rate": "0.01", "max_depth": "6"},
    metrics={"train_loss": 0.342},
    start_time=_START,
    end_time=_END,
    duration_seconds=342.5,
    heartbeat_at=_END,
    lifecycle="active",
)
_SERIES_SHOWN = schema.SeriesSummary(
    key="train_loss",
    count=2,
    exact=True,
    last=0.342,
    last_step=15,
    last_timestamp=_START + 60_000,
    min=0.342,
    min_step=15,
    max=0.93,
    max_step=0,
)
_HISTORY_SHOWN = schema.History(_RUN, "train_loss", _POINTS, None)

_ALL: tuple[msgspec.Struct, ...] = (
    schema.CreateExperiment("fraud-detection-v3", tags={"team": "risk"}),
    schema.PurgeDeleted(older_than_s=30 * 24 * 3600),
    schema.Purged(runs=3, experiments=1, models=0),
    schema.UpdateExperiment(description="Card payments, third round", tags={"team": None}),
    wire.CreateRun(
        experiment_name="fraud-detection-v3",
        name="xgboost-baseline",
        tags={"stage": "baseline"},
        params={"learning_rate": "0.01", "max_depth": 6},
        user_id="alice@acme.com",
    ),
    schema.UpdateRun(name="xgboost-baseline-2", status="running", tags={"stage": None}),
    schema.LogMetrics({"train_loss": 0.342, "val_loss": "NaN"}, step=15, timestamp=_START),
    schema.LogParams({"learning_rate": "0.01", "max_depth": 6, "bagging": True}),
    schema.LogBatch(
        metrics=[
            schema.Metric("train_loss", 0.93, 0, _START),
            schema.Metric("train_loss", 0.342, 15, _START + 60_000),
        ],
        params=[schema.KeyValue("learning_rate", "0.01")],
        tags=[schema.KeyValue("stage", "baseline")],
    ),
    schema.SeriesRequest([_RUN], ["train_loss", "val_loss"], max_points=1500),
    wire.ConsoleLines([wire.ConsoleLine("stdout", _START, "epoch 1: loss 0.93")]),
    _EXPERIMENT_SHOWN,
    wire.ExperimentPage([_EXPERIMENT_SHOWN], total=1, limit=50, offset=0),
    _RUN_SHOWN,
    wire.RunPage([_RUN_SHOWN], limit=50, offset=0, next_cursor=None, total=1),
    schema.LogReply(_RUN, 2),
    wire.BatchReply(_RUN, wire.Accepted(metrics=2, params=1, tags=1)),
    wire.EndReply("Run ended", _RUN, "finished", 342.5),
    schema.StopReply("Run asked to stop", _RUN, True),
    schema.SeriesPage(_RUN, [_SERIES_SHOWN], total=1),
    schema.MetricKeys(_RUN, ["train_loss", "val_loss"]),
    _HISTORY_SHOWN,
    schema.SeriesReply([_HISTORY_SHOWN]),
    wire.ArtifactPage([wire.Artifact("model/weights.bin", False, 4, _START, None)]),
    wire.ArtifactReply("model/weights.bin", 4, "9f86d081" * 8),
    schema.DeletedArtifact("model/weights.bin", True),
    wire.ConsolePage(_RUN, [wire.ConsoleEntry(1, "stdout", _START, "epoch 1: loss 0.93")], 1),
    wire.ConsoleReply(_RUN, 1),
    schema.Tenants(["acme-corp", wire.DEFAULT_TENANT]),
    schema.Health(),
    schema.Readiness(),
    schema.Limits(),
    wire.Problem(
        type="urn:stepwell:problem:invalid-field",
        title="Invalid field",
        status=422,
        detail="Expected `float | str`, got `bool`",
        errors=[wire.FieldError("metrics[0].value", "Expected `float | str`, got `bool`")],
    ),
)

EXAMPLES: Final[dict[type[msgspec.Struct], Any]] = {
    type(one): msgspec.to_builtins(one) for one in _ALL
}
