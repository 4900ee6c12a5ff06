"""Models by MLflow's own client: autologging, the registry, loading back.

``python mlflow_models_session.py URL CASE``, run by MLflow's Python; a case asserts as it goes.
"""

import json
import math
import sys

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow_session import refused
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

X = np.random.default_rng(0).random((40, 3))
Y = (X[:, 0] > 0.5).astype(int)


def scikit_learn() -> None:
    mlflow.set_experiment("scikit-learn")
    mlflow.sklearn.autolog()
    fitted = LogisticRegression().fit(X, Y)
    run = mlflow.last_active_run()
    assert run.info.status == "FINISHED"
    assert "training_score" in run.data.metrics
    assert run.data.params["C"] == "1.0"
    [output] = run.outputs.model_outputs
    logged = mlflow.get_logged_model(output.model_id)
    assert logged.status == "READY"
    assert "training_score" in {metric.key for metric in logged.metrics}
    same = mlflow.sklearn.load_model(f"models:/{output.model_id}").predict(X)
    assert same.tolist() == fitted.predict(X).tolist()
    with mlflow.start_run(run_name="a run of the user's"):
        LogisticRegression(C=0.5).fit(X, Y)
    assert mlflow.last_active_run().data.params["C"] == "0.5"
    _grid_search()
    mlflow.sklearn.autolog(disable=True)


def _grid_search() -> None:
    GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0, 10.0]}, cv=2).fit(X, Y)
    parent = mlflow.last_active_run()
    assert "best_cv_score" in parent.data.metrics
    best = mlflow.sklearn.load_model(f"runs:/{parent.info.run_id}/best_estimator")
    assert best.predict(X).tolist()
    c = MlflowClient()
    filter = f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    children = c.search_runs([parent.info.experiment_id], filter)
    assert sorted(child.data.params["C"] for child in children) == ["0.1", "1.0", "10.0"]
    assert all("mean_test_score" in child.data.metrics for child in children)
    everything = c.search_runs([parent.info.experiment_id])
    assert {run.info.status for run in everything} == {"FINISHED"}, "autolog left one running"


def logged_models() -> None:
    mlflow.set_experiment("logged models")
    fitted = LogisticRegression().fit(X, Y)
    with mlflow.start_run() as run:
        info = mlflow.sklearn.log_model(fitted, name="mine", pip_requirements=["scikit-learn"])
        mlflow.log_metric("of the model", 0.5, model_id=info.model_id)
    assert mlflow.pyfunc.load_model(info.model_uri).predict(X).tolist()
    assert mlflow.sklearn.load_model(f"runs:/{run.info.run_id}/mine").predict(X).tolist()
    found = mlflow.search_logged_models(filter_string="name = 'mine'", output_format="list")
    assert [model.model_id for model in found] == [info.model_id]
    c = MlflowClient()
    c.set_logged_model_tags(info.model_id, {"k": "v"})
    c.log_model_params(info.model_id, {"depth": "3"})
    model = mlflow.get_logged_model(info.model_id)
    assert (model.tags["k"], model.params["depth"]) == ("v", "3")
    assert [metric.value for metric in model.metrics] == [0.5]
    c.delete_logged_model_tag(info.model_id, "k")
    outside = mlflow.initialize_logged_model(name="outside", model_type="agent")
    assert outside.status == LoggedModelStatus.PENDING
    done = mlflow.finalize_logged_model(outside.model_id, LoggedModelStatus.FAILED)
    assert done.status == LoggedModelStatus.FAILED
    external = mlflow.create_external_model(name="elsewhere", params={"a": "b"})
    assert mlflow.get_logged_model(external.model_id).params == {"a": "b"}
    order = [{"field_name": "name", "ascending": False}]
    named = mlflow.search_logged_models(order_by=order, output_format="list")
    assert [model.name for model in named] == ["outside", "mine", "elsewhere"]
    c.delete_logged_model(info.model_id)
    with refused("RESOURCE_DOES_NOT_EXIST", "not found"):
        c.get_logged_model(info.model_id)


def registry() -> None:
    mlflow.set_experiment("registry")
    c = MlflowClient()
    fitted = LogisticRegression().fit(X, Y)
    expected = fitted.predict(X).tolist()
    with mlflow.start_run() as run:
        for _ in range(2):
            logged = mlflow.sklearn.log_model(
                fitted, name="mine", registered_model_name="m", pip_requirements=["scikit-learn"]
            )
    assert str(logged.registered_model_version) == "2"
    third = mlflow.register_model(f"runs:/{run.info.run_id}/mine", "m", tags={"by": "hand"})
    assert (third.version, third.run_id) == ("3", run.info.run_id)
    c.set_registered_model_alias("m", "champion", "2")
    for uri in ("models:/m/1", "models:/m/2", "models:/m@champion", "models:/m/latest"):
        assert mlflow.pyfunc.load_model(uri).predict(X).tolist() == expected, uri
    assert c.get_model_version_by_alias("m", "champion").version == "2"
    assert c.get_model_version("m", "3").tags == {"by": "hand"}
    told = json.loads(mlflow.get_logged_model(logged.model_id).tags["mlflow.modelVersions"])
    assert {(one["name"], str(one["version"])) for one in told} == {("m", "2"), ("m", "3")}
    _stages(c)
    copied = c.copy_model_version("models:/m/2", "copy")
    assert (copied.name, copied.version, copied.run_id) == ("copy", "1", run.info.run_id)
    assert mlflow.pyfunc.load_model("models:/copy/1").predict(X).tolist() == expected
    uri = c.get_model_version_download_uri("copy", "1")
    assert uri == c.get_model_version_download_uri("m", "2")
    assert uri.startswith("mlflow-artifacts:/")
    _registered(c)


def _stages(c: MlflowClient) -> None:
    for number in ("1", "2"):
        c.transition_model_version_stage("m", number, "Production", archive_existing_versions=True)
    assert [c.get_model_version("m", n).current_stage for n in "12"] == ["Archived", "Production"]
    [live] = c.get_latest_versions("m", ["Production"])
    assert live.version == "2"
    assert mlflow.pyfunc.load_model("models:/m/Production").metadata.run_id
    with refused("INVALID_PARAMETER_VALUE", "Invalid Model Version stage"):
        c.transition_model_version_stage("m", "1", "Live")


def _registered(c: MlflowClient) -> None:
    with refused("RESOURCE_ALREADY_EXISTS", "Registered Model (name=m) already exists"):
        c.create_registered_model("m")
    with refused("RESOURCE_DOES_NOT_EXIST", "Registered Model with name=nobody not found"):
        c.get_registered_model("nobody")
    with refused("RESOURCE_DOES_NOT_EXIST", "Model Version (name=m, version=9) not found"):
        c.get_model_version("m", "9")
    with refused("INVALID_PARAMETER_VALUE", "Registered model alias nobody not found"):
        c.get_model_version_by_alias("m", "nobody")
    with refused("INVALID_PARAMETER_VALUE", "Names cannot contain"):
        c.create_registered_model("a/b")
    c.update_registered_model("m", description="words")
    c.set_registered_model_tag("m", "team", "x")
    c.set_model_version_tag("m", "1", "k", "v")
    c.update_model_version("m", "1", description="first")
    model = c.get_registered_model("m")
    assert (model.description, model.tags) == ("words", {"team": "x"})
    assert model.aliases == {"champion": "2"}
    assert {v.current_stage: v.version for v in model.latest_versions} == {
        "Archived": "1", "Production": "2", "None": "3"
    }  # fmt: skip
    c.delete_registered_model_tag("m", "team")
    c.delete_model_version_tag("m", "1", "k")
    c.delete_registered_model_alias("m", "champion")
    for number in range(3):
        c.create_registered_model(f"other{number}", tags={"n": str(number)})
    assert [m.name for m in c.search_registered_models("name LIKE 'other%'")] == [
        "other0", "other1", "other2"
    ]  # fmt: skip
    assert [m.name for m in c.search_registered_models("tags.n = '1'")] == ["other1"]
    paged = c.search_registered_models(max_results=2, order_by=["name DESC"])
    assert [m.name for m in paged] == ["other2", "other1"]
    further = c.search_registered_models(page_token=paged.token, order_by=["name DESC"])
    assert [m.name for m in further] == ["other0", "m", "copy"]
    found = c.search_model_versions("name = 'm'", order_by=["version_number ASC"])
    assert [v.version for v in found] == ["1", "2", "3"]
    assert {v.name for v in c.search_model_versions(f"run_id = '{found[0].run_id}'")} == {
        "m", "copy"
    }  # fmt: skip
    assert len(mlflow.search_model_versions()) == 4
    assert len(mlflow.search_registered_models()) == 5
    c.rename_registered_model("m", "renamed")
    c.delete_model_version("renamed", "3")
    assert [v.version for v in c.search_model_versions("name = 'renamed'")] == ["2", "1"]
    c.delete_registered_model("renamed")
    with refused("RESOURCE_DOES_NOT_EXIST", "name=renamed not found"):
        c.get_registered_model("renamed")


def boosting() -> None:
    """XGBoost and LightGBM log by themselves: each round's metric, parameters, files, a model."""
    import lightgbm
    import xgboost

    mlflow.set_experiment("boosting")
    mlflow.autolog(log_datasets=True)
    rounds = 5
    data = xgboost.DMatrix(X, label=Y)
    xgboost.train(
        {"max_depth": 2, "eval_metric": "logloss", "nthread": 1},
        data, num_boost_round=rounds, evals=[(data, "train")], verbose_eval=False,
    )  # fmt: skip
    _trained("train-logloss", rounds, {"max_depth": "2"}, "feature_importance_weight.json")
    training = lightgbm.Dataset(X, label=Y)
    lightgbm.train(
        {"objective": "binary", "min_data_in_leaf": 2, "verbose": -1, "num_threads": 1},
        training, num_boost_round=rounds, valid_sets=[training], valid_names=["train"],
    )  # fmt: skip
    _trained(
        "train-binary_logloss", rounds, {"objective": "binary"}, "feature_importance_split.json"
    )
    xgboost.XGBClassifier(n_estimators=3, nthread=1).fit(X, Y)
    run = mlflow.last_active_run()
    assert run.data.params["objective"] == "binary:logistic"
    mlflow.autolog(disable=True)
    everything = MlflowClient().search_runs([run.info.experiment_id])
    assert {run.info.status for run in everything} == {"FINISHED"}, "autolog left one running"


def _trained(metric: str, rounds: int, params: dict[str, str], file: str) -> None:
    run = mlflow.last_active_run()
    assert run.info.status == "FINISHED"
    assert params.items() <= run.data.params.items(), run.data.params
    c = MlflowClient()
    history = c.get_metric_history(run.info.run_id, metric)
    assert [point.step for point in history] == list(range(rounds)), (metric, run.data.metrics)
    assert all(math.isfinite(point.value) for point in history)
    assert file in {entry.path for entry in c.list_artifacts(run.info.run_id)}
    assert run.inputs.dataset_inputs, "the training data is told"
    [output] = run.outputs.model_outputs
    loaded = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    assert len(loaded.predict(X)) == len(X)


CASES = {case.__name__: case for case in (scikit_learn, logged_models, registry, boosting)}

if __name__ == "__main__":
    mlflow.set_tracking_uri(sys.argv[1])
    CASES[sys.argv[2]]()
