"""What a user's scripts do, by MLflow's own client: run by MLflow's Python, not by ours.

``python mlflow_session.py URL CASE``; a case asserts as it goes.
"""

import contextlib
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException


@contextlib.contextmanager
def refused(code: str, text: str) -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        met = error
    else:
        raise AssertionError(f"nothing was refused, where {text!r} was expected")
    assert met.error_code == code, met.error_code
    assert text in str(met), met


def fluent() -> None:
    mlflow.set_experiment("fluent")
    with mlflow.start_run(run_name="parent", tags={"a": "b"}, description="words") as parent:
        mlflow.log_param("lr", 0.1)
        mlflow.log_params({"depth": 3, "kind": "tree"})
        for step in range(5):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_metrics({"nan": math.nan, "inf": math.inf, "low": -math.inf}, step=2)
        mlflow.set_tags({"u": "1", "w": "2"})
        mlflow.delete_tag("w")
        with mlflow.start_run(nested=True, run_name="child") as child:
            mlflow.log_metric("loss", 9)
    run = mlflow.get_run(parent.info.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.end_time >= run.info.start_time
    assert run.data.params == {"lr": "0.1", "depth": "3", "kind": "tree"}
    assert run.data.metrics["loss"] == 0.2
    assert math.isnan(run.data.metrics["nan"])
    assert (run.data.metrics["inf"], run.data.metrics["low"]) == (math.inf, -math.inf)
    tags = run.data.tags
    assert (tags["a"], tags["u"], tags["mlflow.note.content"]) == ("b", "1", "words")
    assert "w" not in tags
    found = mlflow.search_runs(filter_string=f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert list(found["run_id"]) == [child.info.run_id]
    with mlflow.start_run(run_id=parent.info.run_id):
        assert mlflow.get_run(parent.info.run_id).info.status == "RUNNING"
        mlflow.log_metric("loss", 0.1, step=5)
    history = MlflowClient().get_metric_history(parent.info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [*((s, 1 / (s + 1)) for s in range(5)), (5, 0.1)]
    with contextlib.suppress(ZeroDivisionError), mlflow.start_run() as failed:
        raise ZeroDivisionError
    assert mlflow.get_run(failed.info.run_id).info.status == "FAILED"
    mlflow.set_experiment("fluent")


def asynchronous() -> None:
    mlflow.set_experiment("asynchronous")
    mlflow.config.enable_async_logging()
    with mlflow.start_run() as run:
        for step in range(300):
            mlflow.log_metrics({"a": step, "b": -step}, step=step)
        mlflow.log_params({f"p{i}": i for i in range(150)})
        mlflow.set_tags({f"t{i}": i for i in range(150)})
        mlflow.flush_async_logging()
    mlflow.config.enable_async_logging(False)
    client = MlflowClient()
    for key in "ab":
        assert len(client.get_metric_history(run.info.run_id, key)) == 300
    found = client.get_run(run.info.run_id)
    assert len(found.data.params) == 150
    assert found.data.tags["t149"] == "149"


def client() -> None:
    c = MlflowClient()
    experiment = c.create_experiment("client", tags={"team": "x"})
    with refused("RESOURCE_ALREADY_EXISTS", "already exists"):
        c.create_experiment("client")
    assert c.get_experiment_by_name("nobody's") is None
    assert c.get_experiment(experiment).tags == {"team": "x"}
    run = c.create_run(experiment, run_name="one", start_time=5).info.run_id
    c.log_batch(
        run,
        metrics=[Metric("x", float(i), i, i) for i in range(1_000)],
        params=[Param("p", "1")],
        tags=[RunTag("t", "1")],
    )
    assert len(c.get_metric_history(run, "x")) == 1_000
    c.log_batch(run, metrics=[Metric("y", float(i), i, i) for i in range(2_500)])
    assert len(c.get_metric_history(run, "y")) == 2_500
    with refused("INVALID_PARAMETER_VALUE", "Changing param values is not allowed"):
        c.log_param(run, "p", "2")
    with refused("RESOURCE_DOES_NOT_EXIST", "not found"):
        c.get_run("0" * 32)
    c.update_run(run, status="FINISHED", name="renamed")
    assert c.get_run(run).info.run_name == "renamed"
    c.set_terminated(run, status="KILLED", end_time=99)
    assert (c.get_run(run).info.status, c.get_run(run).info.end_time) == ("KILLED", 99)
    c.delete_run(run)
    with refused("INVALID_PARAMETER_VALUE", "must be in the 'active' state"):
        c.log_metric(run, "x", 1)
    assert c.search_runs([experiment]) == []
    assert len(c.search_runs([experiment], run_view_type=ViewType.ALL)) == 1
    c.restore_run(run)
    assert len(c.search_runs([experiment])) == 1
    c.rename_experiment(experiment, "other")
    c.set_experiment_tag(experiment, "k", "v")
    c.delete_experiment_tag(experiment, "team")
    assert c.get_experiment_by_name("other").tags == {"k": "v"}
    c.delete_experiment(experiment)
    assert c.get_run(run).info.lifecycle_stage == "deleted"
    with refused("INVALID_PARAMETER_VALUE", "must be in the 'active' state"):
        c.create_run(experiment)
    c.restore_experiment(experiment)
    assert c.get_run(run).info.lifecycle_stage == "active"
    c.delete_tag(run, "t")
    with refused("RESOURCE_DOES_NOT_EXIST", "No tag with name"):
        c.delete_tag(run, "t")


SEARCHES = {
    "metrics.loss > 1": "bc",
    "metrics.loss >= 1 and metrics.loss != 2": "ac",
    "metric.loss = 1": "a",
    "metrics.`loss` < 2.5e0": "ab",
    "metrics.loss <= 1": "a",
    "params.kind = 'x'": "ab",
    "param.kind != 'x'": "c",
    "parameters.kind LIKE 'X%'": "",
    "params.kind ILIKE 'X%'": "ab",
    "params.only IS NULL": "bc",
    "params.only IS NOT NULL": "a",
    'tags."my tag" = "1"': "a",
    "tag.team != '1'": "bc",
    "tags.team LIKE '%2'": "b",
    "tags.nobody IS NULL": "abc",
    "attributes.run_name = 'a'": "a",
    "run_name ILIKE 'A'": "a",
    "attr.`Run name` != 'a'": "bc",
    "status = 'RUNNING'": "b",
    "attributes.status != 'RUNNING'": "ac",
    "status = 'running'": "",
    "start_time > 1 and created <= 3": "bc",
    "end_time > 0": "ac",
    "user_id = 'unknown'": "abc",
    "artifact_uri LIKE 'mlflow-artifacts:%'": "abc",
    "datasets.name = 'd' and dataset.context = 'train'": "a",
    "datasets.digest IN ('1', '2')": "ab",
    "datasets.digest NOT IN ('1')": "bc",
    "dataset.digest != '2'": "ac",
    "datasets.name LIKE 'D'": "",
    "dataset.name ILIKE 'D' AND datasets.context = 'test'": "bc",
    "metrics.loss != 3": "ab",
    "params.kind LIKE 'x'": "ab",
    "tags.team ILIKE '_'": "abc",
    "tags.`my tag` IS NOT NULL": "a",
    "tags.team = '1' AND params.kind = 'x' AND metrics.loss = 1": "a",
    "start_time != 2": "ac",
    "start_time >= 2": "bc",
    "created = 3": "c",
    "end_time <= 0": "",
    "user_id LIKE 'un%'": "abc",
    "user_id ILIKE 'UN%'": "abc",
    "run_name LIKE 'A'": "",
    "status LIKE 'FINI%'": "ac",
    "artifact_uri != 'x'": "abc",
    "metrics.loss > 0 AND ": "abc",
}
REFUSED = (
    "params.kind = x", "metrics.loss > '1'", "nonsense.x = '1'", "attributes.nonsense = '1'",
    "params.a = '1' OR params.b = '2'", "NOT params.a = '1'", "(params.a = '1')",
    "status IN ('RUNNING')", "metrics.x IS NULL", "params.a = '1' junk", "metrics.a LIKE 'x'",
    "metrics.loss > +1", "params.a", "run_name NOT LIKE 'a'",
)  # fmt: skip


def search() -> None:
    c = MlflowClient()
    experiment = c.create_experiment("search")
    ids = {}
    for number, (name, kind) in enumerate({"a": "x", "b": "x", "c": "y"}.items(), 1):
        tags = {"team": str(number)}
        run = c.create_run(experiment, run_name=name, start_time=number, tags=tags).info.run_id
        ids[name] = run
        c.log_metric(run, "loss", 99, step=0)
        c.log_metric(run, "loss", number, step=1)
        c.log_param(run, "kind", kind)
        data = mlflow.entities.Dataset(name="d", digest=str(number), source_type="s", source="{}")
        context = mlflow.entities.InputTag(
            "mlflow.data.context", "train" if name == "a" else "test"
        )
        c.log_inputs(run, [mlflow.entities.DatasetInput(data, [context])])
        if name != "b":
            c.set_terminated(run)
    c.log_param(ids["a"], "only", "")
    c.set_tag(ids["a"], "my tag", "1")
    c.log_metric(ids["b"], "rank", math.nan)
    c.log_metric(ids["c"], "rank", -5)

    def names(filter: str = "", *order: str) -> str:
        return "".join(r.info.run_name for r in c.search_runs([experiment], filter, order_by=order))

    for filter, expected in SEARCHES.items():
        found = names(filter, "run_name")
        assert found == expected, (filter, found)
    for filter in REFUSED:
        with refused("INVALID_PARAMETER_VALUE", ""):
            names(filter)
    some = f"run_id IN ('{ids['a']}', '{ids['c']}')"
    assert names(some, "run_name") == "ac"
    assert names(some.replace(" IN", " NOT IN")) == "b"
    assert names() == "cba"
    assert names("", "metrics.loss DESC") == "cba"
    assert names("", "metrics.rank ASC") == names("", "metrics.rank DESC") == "cba"
    assert names("", "params.kind DESC", "start_time") == "cab"
    assert names("", "attributes.status ASC", "tags.team") == "acb"
    pages, token = "", None
    while True:
        page = c.search_runs([experiment], max_results=1, page_token=token)
        pages += "".join(run.info.run_name for run in page)
        token = page.token
        if not token:
            break
    assert pages == "cba"
    assert c.search_runs(["777"]) == []
    assert [e.name for e in c.search_experiments(filter_string="name LIKE 'sear%'")] == ["search"]


def artifacts() -> None:
    mlflow.set_experiment("artifacts")
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run() as run:
        top = Path(folder)
        (top / "deep" / "er").mkdir(parents=True)
        (top / "deep" / "er" / "größe 100%+a.txt").write_text("hello")
        (top / "empty.bin").touch()
        (top / "large.bin").write_bytes(os.urandom(3_000_000))
        mlflow.log_artifacts(folder, "all")
        mlflow.log_text("words", "notes/a.txt")
        mlflow.log_dict({"a": 1}, "d.json")
        mlflow.log_table({"q": ["a"], "r": ["b"]}, "table.json")
        mlflow.log_image(np.zeros((8, 8, 3), dtype=np.uint8), key="dog", step=20)
        c, run_id = MlflowClient(), run.info.run_id
        assert [f.path for f in c.list_artifacts(run_id, "all")] == [
            "all/deep", "all/empty.bin", "all/large.bin"
        ]  # fmt: skip
        back = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="all"))
        assert (back / "deep" / "er" / "größe 100%+a.txt").read_text() == "hello"
        assert (back / "large.bin").read_bytes() == (top / "large.bin").read_bytes()
        assert (back / "empty.bin").read_bytes() == b""
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/notes/a.txt") == "words"
    assert mlflow.artifacts.load_dict(f"runs:/{run_id}/d.json") == {"a": 1}
    assert list(mlflow.load_table("table.json", run_ids=[run_id])["r"]) == ["b"]
    assert len(c.list_artifacts(run_id, "images")) == 2
    assert c.list_artifacts(run_id, "nowhere") == []
    with refused("RESOURCE_DOES_NOT_EXIST", "Failed to download artifacts"):
        mlflow.artifacts.load_text(f"runs:/{run_id}/nothing.txt")


def datasets() -> None:
    mlflow.set_experiment("datasets")
    frame = pd.DataFrame({"a": [1.0, 2.0], "y": [0.0, 1.0]})
    data = mlflow.data.from_pandas(frame, name="mine", targets="y")
    with mlflow.start_run() as run:
        for _ in range(2):
            mlflow.log_input(data, context="training")
    [found] = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest) == ("mine", data.digest)
    assert {tag.key: tag.value for tag in found.tags} == {"mlflow.data.context": "training"}
    assert mlflow.search_runs(filter_string="datasets.name = 'mine'")["run_id"].tolist() == [
        run.info.run_id
    ]


def workspaces() -> None:
    """Two workspaces and the default one, each blind to the others."""
    ids = {}
    for name in ("team-a", "team-b", None):
        mlflow.set_workspace(name)
        mlflow.set_experiment("same name")
        with mlflow.start_run(run_name=f"of {name}") as run:
            mlflow.log_metric("mark", 1)
            mlflow.log_text(str(name), "a.txt")
        ids[name] = run.info.run_id
        found = mlflow.search_runs(search_all_experiments=True, output_format="list")
        assert [run.info.run_name for run in found if "mark" in run.data.metrics] == [f"of {name}"]
        assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/a.txt") == str(name)
    c = MlflowClient()
    for name in ids:
        mlflow.set_workspace(name)
        for other, run_id in ids.items():
            if other != name:
                with refused("RESOURCE_DOES_NOT_EXIST", "not found"):
                    c.get_run(run_id)
                with refused("RESOURCE_DOES_NOT_EXIST", "not found"):
                    c.log_metric(run_id, "x", 1)
    mlflow.set_workspace(None)
    _administration()


def _administration() -> None:
    from mlflow.entities.workspace import WorkspaceDeletionMode

    made = mlflow.create_workspace("team-c", description="words")
    assert (made.name, mlflow.get_workspace("team-c").description) == ("team-c", "words")
    assert mlflow.update_workspace("team-c", description="other").description == "other"
    assert {"default", "team-a", "team-b", "team-c"} <= {w.name for w in mlflow.list_workspaces()}
    with refused("RESOURCE_ALREADY_EXISTS", "already exists"):
        mlflow.create_workspace("team-c")
    with refused("RESOURCE_DOES_NOT_EXIST", "not found"):
        mlflow.get_workspace("nobody")
    with refused("INVALID_PARAMETER_VALUE", "still contains resources"):
        mlflow.delete_workspace("team-b")
    mlflow.delete_workspace("team-b", mode=WorkspaceDeletionMode.CASCADE)
    mlflow.delete_workspace("team-c")
    left = {w.name for w in mlflow.list_workspaces()}
    assert not {"team-b", "team-c"} & left


# A call of MLflow's own HTTP client, what is sent, and what the exception says.
REFUSALS: tuple[tuple[str, str, dict[str, Any], str, str], ...] = (
    ("GET", "runs/get", {}, "INVALID_PARAMETER_VALUE",
     "Missing value for required parameter 'run_id'."),
    ("POST", "experiments/create", {"name": ""}, "INVALID_PARAMETER_VALUE",
     "Missing value for required parameter 'name'."),
    ("POST", "runs/update", {"run_id": 31}, "INVALID_PARAMETER_VALUE",
     "Invalid value 31 for parameter 'run_id' supplied"),
    ("POST", "runs/log-metric", {"key": "x", "value": 1, "timestamp": 1, "step": "foo"},
     "INVALID_PARAMETER_VALUE", "Invalid value \"foo\" for parameter 'step' supplied"),
    ("POST", "runs/log-metric", {"key": "x", "value": "abc", "timestamp": 1},
     "INVALID_PARAMETER_VALUE", "Invalid value \"abc\" for parameter 'value' supplied"),
    ("POST", "runs/log-batch", {"metrics": [{"key": "x", "value": 1}]}, "INVALID_PARAMETER_VALUE",
     "Missing value for required parameter 'metrics[0].timestamp'"),
    ("POST", "runs/log-batch",
     {"params": [{"key": "p", "value": "1"}, {"key": "p", "value": "2"}]},
     "INVALID_PARAMETER_VALUE", "Duplicate parameter keys have been submitted"),
    ("POST", "runs/log-batch", {"params": [{"key": str(i), "value": ""} for i in range(101)]},
     "INVALID_PARAMETER_VALUE",
     "A batch logging request can contain at most 100 params. Got 101 params."),
    ("POST", "runs/search", {"experiment_ids": ["0"], "max_results": 0},
     "INVALID_PARAMETER_VALUE", "Invalid value 0 for parameter 'max_results' supplied"),
    ("POST", "runs/search", {"experiment_ids": ["0"], "page_token": "garbage"},
     "INVALID_PARAMETER_VALUE", ""),
    ("POST", "runs/search", {"experiment_ids": ["x"]}, "INVALID_PARAMETER_VALUE",
     "Experiment ID must be a valid integer"),
    ("GET", "artifacts/list", {"path": "../x"}, "INVALID_PARAMETER_VALUE", "Invalid path"),
    ("GET", "nonsense", {}, "ENDPOINT_NOT_FOUND", ""),
)  # fmt: skip


def refusals() -> None:
    """An error for each way to be refused, as the client raises it."""
    from mlflow.utils.rest_utils import MlflowHostCreds, http_request, verify_rest_response

    c = MlflowClient()
    experiment = c.create_experiment("refusals")
    run = c.create_run(experiment).info.run_id
    host = MlflowHostCreds(mlflow.get_tracking_uri())
    for method, path, sent, code, text in REFUSALS:
        body = dict(sent)
        if path.startswith(("runs/log", "artifacts")):
            body["run_id"] = run
        how = {"params": body} if method == "GET" else {"json": body}
        with refused(code, text):
            endpoint = f"/api/2.0/mlflow/{path}"
            verify_rest_response(http_request(host, endpoint, method, **how), endpoint)
    nobody = "0" * 32
    with refused("RESOURCE_DOES_NOT_EXIST", f"Run with id={nobody} not found"):
        c.get_run(nobody)
    with refused("RESOURCE_DOES_NOT_EXIST", "No Experiment with id=777 exists"):
        c.get_experiment("777")
    with refused("RESOURCE_DOES_NOT_EXIST", "No Experiment with id=777 exists"):
        c.create_run("777")
    with refused("RESOURCE_ALREADY_EXISTS", "Experiment(name=refusals) already exists"):
        c.create_experiment("refusals")
    model = "m-" + "0" * 32
    with refused("RESOURCE_DOES_NOT_EXIST", f"Logged model with ID '{model}' not found."):
        c.get_logged_model(model)
    own = c.create_logged_model(experiment).model_id
    with refused("RESOURCE_DOES_NOT_EXIST", "No tag with key 'k' found for model"):
        c.delete_logged_model_tag(own, "k")
    for name in ("a//b", "../x", "/abs", "a!b"):
        with refused("INVALID_PARAMETER_VALUE", "ame"):
            c.log_metric(run, name, 1)
    c.log_param(run, "p", "1")
    with refused("INVALID_PARAMETER_VALUE", "Changing param values is not allowed."):
        c.log_param(run, "p", "2")
    with refused("RESOURCE_DOES_NOT_EXIST", f"No tag with name: t in run with id {run}"):
        c.delete_tag(run, "t")
    c.delete_run(run)
    gone = f"The run {run} must be in the 'active' state. Current state is deleted."
    for write, arguments in (
        (c.log_metric, ("x", 1)), (c.log_param, ("q", 1)), (c.set_tag, ("t", 1)),
        (c.update_run, ("FAILED",)), (c.log_inputs, ([],)),
    ):  # fmt: skip
        with refused("INVALID_PARAMETER_VALUE", gone):
            write(run, *arguments)
    told = ""
    try:
        c.log_text(run, "words", "a.txt")
    except OSError as error:  # transfers of files raise what requests raises
        told = str(error)
    assert gone in told
    assert c.get_run(run).data.params == {"p": "1"}, "reads go on"
    c.delete_experiment(experiment)
    with refused("RESOURCE_DOES_NOT_EXIST", f"No Experiment with id={experiment} exists"):
        c.delete_experiment(experiment)
    with refused("INVALID_PARAMETER_VALUE", f"The experiment {experiment} must be in the 'active'"):
        c.rename_experiment(experiment, "other")
    with refused("INVALID_PARAMETER_VALUE", "deleted"):
        mlflow.set_experiment("refusals")


CASES = {
    case.__name__: case
    for case in (fluent, asynchronous, client, search, artifacts, datasets, workspaces, refusals)
}

if __name__ == "__main__":
    mlflow.set_tracking_uri(sys.argv[1])
    CASES[sys.argv[2]]()
