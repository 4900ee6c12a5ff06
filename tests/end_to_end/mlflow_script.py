"""One user's script, whose every answer is written down: run by MLflow's Python, not by ours.

``python mlflow_script.py URI FILE`` writes JSON: what was asked -> what came.  Ids and times that
the server chose are replaced by words, so that two servers' answers can be compared as they are.
"""

import json
import math
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    RunTag,
    ViewType,
)

answers: dict[str, Any] = {}
words: dict[str, str] = {}
client: MlflowClient


def note(what: str, answer: Callable[..., Any], *asked: Any) -> None:
    """Writes down the answer to what was asked, or the refusal."""
    assert what not in answers, what
    try:
        answers[what] = answer(*asked)
    except Exception as error:  # noqa: BLE001 - a store in files has refusals of its own
        answers[what] = ["refused", getattr(error, "error_code", type(error).__name__)]


def named(word: str, made: str) -> str:
    words[made] = f"<{word}>"
    return made


def told(thing: Any) -> Any:
    """An entity's fields, times left out."""
    if isinstance(thing, float) and not math.isfinite(thing):
        return str(thing)
    if isinstance(thing, str | int | float) or thing is None:
        return thing
    if isinstance(thing, dict):
        return {str(key): told(value) for key, value in sorted(thing.items())}
    if hasattr(thing, "to_dictionary"):
        return told(thing.to_dictionary())
    if hasattr(thing, "__iter__") and not hasattr(type(thing), "_properties"):
        return [told(one) for one in thing]
    found = {name: value for name, value in thing if name not in TIMES}
    return told(found)


TIMES = {
    "creation_time", "last_update_time", "creation_timestamp", "last_updated_timestamp",
    "workspace",
}  # fmt: skip


def names(runs: Any) -> list[str]:
    return [run.info.run_name for run in runs]


def experiments() -> str:
    made = named("alpha", client.create_experiment("alpha", tags={"team": "x", "empty": ""}))
    gone = named("gone", client.create_experiment("gone"))
    note("experiment", lambda: told(client.get_experiment(made)))
    note("experiment again", lambda: client.create_experiment("alpha"))
    note("experiment without a name", lambda: client.create_experiment(""))
    note("experiment unknown", lambda: client.get_experiment("99"))
    note("experiment of no number", lambda: client.get_experiment("x"))
    note("experiment of no name", lambda: client.get_experiment_by_name("nobody's"))
    client.rename_experiment(gone, "renamed")
    client.set_experiment_tag(gone, "k", "v")
    client.delete_experiment(gone)
    note("deleted experiment", lambda: told(client.get_experiment_by_name("renamed")))
    note("delete again", lambda: client.delete_experiment(gone))
    note("run in a deleted one", lambda: client.create_run(gone))
    note("rename a deleted one", lambda: client.rename_experiment(gone, "other"))
    for view in ("ACTIVE_ONLY", "DELETED_ONLY", "ALL"):
        search = {"view_type": getattr(ViewType, view), "order_by": ["name ASC"]}
        note(
            f"experiments {view}",
            lambda s: [e.name for e in client.search_experiments(**s)],
            search,
        )
    for filter in ("name LIKE 'al%'", "name ILIKE 'AL%'", "tags.team = 'x'", "name = 'a' OR 1"):
        note(
            f"experiments where {filter}",
            lambda f: [e.name for e in client.search_experiments(filter_string=f)],
            filter,
        )
    return made


def runs(experiment: str) -> list[str]:
    made = []
    for number, name in enumerate(("one", "two", "three")):
        tags = {"mlflow.user": "me", "kind": name, "mlflow.source.name": "script.py"}
        start = 1_700_000_000_000 + number
        run = client.create_run(experiment, run_name=name, tags=tags, start_time=start)
        made.append(named(f"run {name}", run.info.run_id))
    one, two, three = made
    points = [Metric("loss", 1 / (i + 1), 1_000 + i, i) for i in range(997)]
    client.log_batch(one, points, [Param("lr", "0.1"), Param("empty", "")], [RunTag("t", "1")])
    client.log_batch(one, points[:10])
    for step, value in enumerate((math.nan, math.inf, -math.inf, 0.0, -5.5)):
        client.log_metric(one, "odd/key a", value, timestamp=7, step=step)
    client.log_metric(one, "back", 1.0, timestamp=9, step=-3)
    client.log_metric(one, "back", 2.0, timestamp=5, step=-3)
    client.log_metric(one, "back", 0.5, timestamp=5, step=-7)
    client.log_metric(one, "tie", math.nan, timestamp=5, step=1)
    client.log_metric(one, "tie", -1.0, timestamp=5, step=1)
    client.log_metric(two, "loss", 0.5, timestamp=1, step=1)
    client.log_param(two, "lr", "0.2")
    client.log_param(two, "text", "größe 漢字 'quoted' \"twice\"")
    client.set_tag(two, "mlflow.note.content", "words")
    client.set_tag(two, "mlflow.parentRunId", one)
    client.set_tag(two, "mlflow.runName", "second")
    client.set_terminated(one, end_time=1_700_000_001_000)
    client.set_terminated(two, status="FAILED", end_time=1_700_000_002_000)
    client.update_run(three, status="KILLED", name="third")
    client.delete_run(three)
    return made


def logged(made: list[str]) -> None:
    one, two, three = made
    for word, run in (("one", one), ("two", two)):
        note(f"run {word}", lambda r: told(client.get_run(r)), run)
    note("deleted run", lambda: names([client.get_run(three)]))
    for key in ("loss", "odd/key a", "back", "tie", "none"):
        note(f"history {key}", lambda k: told(client.get_metric_history(one, k)), key)
    note("another value of a parameter", lambda: client.log_param(one, "lr", "0.3"))
    note("the same value of a parameter", lambda: client.log_param(one, "lr", "0.1"))
    note("metric without a name", lambda: client.log_metric(one, "", 1))
    note("metric with a bad name", lambda: client.log_metric(one, "a//b", 1))
    note("metric of a deleted run", lambda: client.log_metric(three, "x", 1))
    note("metric of no run", lambda: client.log_metric("0" * 32, "x", 1))
    note("run of a bad id", lambda: client.get_run("../x"))
    note("tag that is not there", lambda: client.delete_tag(one, "nothing"))
    note("long parameter", lambda: client.log_param(one, "long", "x" * 6_500))
    note("long parameter's length", lambda: len(client.get_run(one).data.params["long"]))
    note("restored", lambda: (client.restore_run(three), names([client.get_run(three)]))[1])


SEARCHES = (
    "metrics.loss < 0.5", "metrics.loss >= 0.5", "params.lr = '0.1'", "params.lr LIKE '0.%'",
    "tags.kind != 'one'", "tags.nothing != 'x'", "params.empty IS NULL", "params.empty IS NOT NULL",
    "attributes.status = 'FINISHED'", "status IN ('FINISHED')", "run_name ILIKE 'SEC%'",
    "start_time > 1700000000000", "datasets.name = 'mine'", "dataset.context = 'train'",
    "metrics.loss > 'x'", "nonsense.x = '1'", "params.lr = 0.1", "tags.kind = 'one' OR 1 = 1",
    "metrics.back = 1", "metrics.tie < 0", "metrics.tie = 0",
)  # fmt: skip
ORDERS = (
    ["metrics.loss ASC"], ["metrics.loss DESC"], ["params.lr DESC"], ["attributes.status ASC"],
    ["start_time ASC"], ["tags.nothing ASC", "run_name DESC"], ["metrics.tie DESC"],
    ["nothing ASC"],
)  # fmt: skip


def searched(experiment: str) -> None:
    for filter in SEARCHES:
        note(
            f"runs where {filter}",
            lambda f: names(client.search_runs([experiment], f, order_by=["run_name ASC"])),
            filter,
        )
    for order in ORDERS:
        note(
            f"runs by {order}",
            lambda o: names(client.search_runs([experiment], order_by=o)),
            order,
        )
    for view in ("ACTIVE_ONLY", "DELETED_ONLY", "ALL"):
        note(
            f"runs {view}",
            lambda v: names(client.search_runs([experiment], "", getattr(ViewType, v))),
            view,
        )

    def pages() -> list[list[str]]:
        found, token = [], None
        while True:
            page = client.search_runs([experiment], max_results=2, page_token=token)
            found.append(names(page))
            token = page.token
            if not token:
                return found

    note("runs in pages", pages)
    note("no results at all", lambda: names(client.search_runs([experiment], max_results=0)))


def datasets(made: list[str]) -> None:
    data = Dataset("mine", "abc", "local", '{"uri": "x"}', '{"s": 1}', '{"p": 1}')
    context = [InputTag("mlflow.data.context", "train")]
    client.log_inputs(made[0], [DatasetInput(data, context), DatasetInput(data, [])])
    client.log_inputs(made[0], [DatasetInput(data, [])])
    client.log_inputs(made[1], [DatasetInput(Dataset("other", "d", "local", "{}"), [])])


def models(experiment: str, made: list[str]) -> None:
    net = client.create_logged_model(experiment, "net", made[0], {"a": "b"}, {"p": "1"}, "sk")
    named("net", net.model_id)
    idle = client.create_logged_model(experiment, name="idle")
    named("idle", idle.model_id)
    client.log_outputs(made[0], [LoggedModelOutput(net.model_id, 3)])
    client.log_inputs(made[1], models=[LoggedModelInput(net.model_id)])
    told_of = {"model_id": net.model_id, "dataset_name": "mine", "dataset_digest": "abc"}
    client.log_metric(made[0], "acc", 0.9, timestamp=7, step=1, **told_of)
    client.finalize_logged_model(net.model_id, "READY")
    client.set_logged_model_tags(net.model_id, {"c": "d"})

    def shown(model: Any) -> Any:
        told_ = model.to_dictionary()
        for name in ("creation_timestamp", "last_updated_timestamp"):
            del told_[name]
        told_["metrics"] = [[m.key, m.value, m.step, m.dataset_name] for m in model.metrics or []]
        return told(told_)

    note("model", lambda: shown(client.get_logged_model(net.model_id)))
    note("model pending", lambda: shown(client.get_logged_model(idle.model_id)))
    note("model with a bad name", lambda: client.create_logged_model(experiment, name="a/b"))
    note("model unknown", lambda: client.get_logged_model("m-" + "0" * 32))
    for filter in ("name = 'net'", "metrics.acc > 0.5", "params.p = '1'", "tags.c = 'x'"):
        note(
            f"models where {filter}",
            lambda f: [m.name for m in client.search_logged_models([experiment], f)],
            filter,
        )
    client.delete_logged_model(idle.model_id)
    note("model deleted", lambda: client.get_logged_model(idle.model_id))
    note("models left", lambda: [m.name for m in client.search_logged_models([experiment])])


def registry(made: list[str]) -> None:
    client.create_registered_model("best", {"a": "b"}, "words")
    for _ in range(2):
        client.create_model_version("best", f"runs:/{made[0]}/files", made[0], {"v": "1"})
    client.set_registered_model_alias("best", "champion", "2")
    client.set_model_version_tag("best", "1", "k", "v")
    note("registered", lambda: told(client.get_registered_model("best").tags))
    note("registered again", lambda: client.create_registered_model("best"))
    note("registered unknown", lambda: client.get_registered_model("nothing"))
    note("version by alias", lambda: client.get_model_version_by_alias("best", "champion").version)
    note("version's tags", lambda: told(client.get_model_version("best", "1").tags))
    note(
        "versions",
        lambda: sorted(int(v.version) for v in client.search_model_versions("name = 'best'")),
    )
    client.delete_registered_model_alias("best", "champion")
    note("alias that is gone", lambda: client.get_model_version_by_alias("best", "champion").name)
    client.set_registered_model_alias("best", "champion", "1")


def artifacts(made: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        (top / "sub").mkdir()
        (top / "sub" / "größe 100%+a.txt").write_text("hello")
        (top / "empty.bin").touch()
        client.log_artifacts(made[0], folder, "files")
    client.log_text(made[1], "text", "a.txt")

    def listed(path: str | None) -> list[list[Any]]:
        return [[f.path, f.is_dir, f.file_size] for f in client.list_artifacts(made[0], path)]

    for path in (None, "files", "files/sub", "nowhere"):
        note(f"files of {path}", lambda p: listed(p), path)
    uri = f"runs:/{made[0]}/files/sub/größe 100%+a.txt"
    note("a file", lambda: mlflow.artifacts.load_text(uri))
    note("no file", lambda: mlflow.artifacts.load_text(f"runs:/{made[0]}/nothing"))


def main(uri: str, place: str) -> None:
    global client
    mlflow.set_tracking_uri(uri)
    client = MlflowClient()
    experiment = experiments()
    made = runs(experiment)
    datasets(made)
    models(experiment, made)
    logged(made)
    searched(experiment)
    registry(made)
    artifacts(made)
    text = json.dumps(answers, ensure_ascii=False)
    for made_, word in words.items():
        if len(made_) >= 32:
            text = re.sub(re.escape(made_), word, text)
    Path(place).write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
