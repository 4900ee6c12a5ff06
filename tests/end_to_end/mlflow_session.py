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


def models() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    mlflow.set_experiment("models")
    mlflow.sklearn.autolog()
    x = np.random.default_rng(0).random((40, 3))
    y = (x[:, 0] > 0.5).astype(int)
    fitted = LogisticRegression().fit(x, y)
    run = mlflow.last_active_run()
    assert run.info.status == "FINISHED"
    assert "training_score" in run.data.metrics
    assert run.data.params["C"] == "1.0"
    [output] = run.outputs.model_outputs
    logged = mlflow.get_logged_model(output.model_id)
    assert logged.status == "READY"
    assert "training_score" in {metric.key for metric in logged.metrics}
    same = mlflow.sklearn.load_model(f"models:/{output.model_id}").predict(x)
    assert same.tolist() == fitted.predict(x).tolist()
    GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0, 10.0]}, cv=2).fit(x, y)
    parent = mlflow.last_active_run()
    assert "best_cv_score" in parent.data.metrics
    best = mlflow.sklearn.load_model(f"runs:/{parent.info.run_id}/best_estimator")
    assert best.predict(x).tolist()
    c = MlflowClient()
    filter = f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    children = c.search_runs([parent.info.experiment_id], filter)
    assert sorted(child.data.params["C"] for child in children) == ["0.1", "1.0", "10.0"]
    assert all("mean_test_score" in child.data.metrics for child in children)
    everything = c.search_runs([parent.info.experiment_id])
    assert {run.info.status for run in everything} == {"FINISHED"}, "autolog left one running"
    mlflow.sklearn.autolog(disable=True)
    with mlflow.start_run():
        info = mlflow.sklearn.log_model(fitted, name="mine", pip_requirements=["scikit-learn"])
    assert mlflow.pyfunc.load_model(info.model_uri).predict(x).tolist() == same.tolist()
    found = mlflow.search_logged_models(filter_string="name = 'mine'", output_format="list")
    assert [model.model_id for model in found] == [info.model_id]
    c.set_logged_model_tags(info.model_id, {"k": "v"})
    assert mlflow.get_logged_model(info.model_id).tags["k"] == "v"
    c.delete_logged_model_tag(info.model_id, "k")
    c.delete_logged_model(info.model_id)
    with refused("RESOURCE_DOES_NOT_EXIST", "not found"):
        c.get_logged_model(info.model_id)


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


CASES = {
    case.__name__: case
    for case in (fluent, asynchronous, client, search, artifacts, datasets, models, workspaces)
}

if __name__ == "__main__":
    mlflow.set_tracking_uri(sys.argv[1])
    CASES[sys.argv[2]]()
