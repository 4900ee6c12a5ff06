"""Gradient boosting on scikit-learn's breast cancer data (569 real patients).

Every tree's training loss is logged while the model is fitted; afterwards the validation curves are
computed tree by tree, and logged with the same steps.  Run it beside a server: ``make run``, then

    python -m examples.boosting --url http://127.0.0.1:7837
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sklearn
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split

from examples.reports import write_card, write_csv
from stepwell import ActiveRun, ExperimentTracker, RunConfig

EXPERIMENT = "breast-cancer-boosting"


@dataclass(frozen=True)
class Configuration:
    name: str
    learning_rate: float
    max_depth: int
    subsample: float = 1.0


CONFIGURATIONS = (
    Configuration("stumps", learning_rate=0.1, max_depth=1),
    Configuration("baseline", learning_rate=0.1, max_depth=3),
    Configuration("slow-stochastic", learning_rate=0.03, max_depth=3, subsample=0.5),
    Configuration("overfitting", learning_rate=0.5, max_depth=5),
)


def fit(
    run: ActiveRun, chosen: Configuration, data: tuple[Any, Any], trees: int
) -> GradientBoostingClassifier:
    """Fit tree by tree; the model tells each tree's training loss as it goes."""

    def log_tree(tree: int, model: Any, _: Mapping[str, Any]) -> bool:
        run.log_metrics({"train_loss": model.train_score_[tree]}, step=tree)
        return run.stop_requested  # true ends the fit: somebody pressed stop

    settings = {name: value for name, value in asdict(chosen).items() if name != "name"}
    model = GradientBoostingClassifier(n_estimators=trees, random_state=0, **settings)
    return model.fit(*data, monitor=log_tree)


def validate(run: ActiveRun, model: Any, x: Any, y: Any) -> dict[str, float]:
    """Log the validation curves; returns where they were best."""
    losses = []
    for tree, guesses in enumerate(model.staged_predict_proba(x)):
        losses.append(float(log_loss(y, guesses)))
        accuracy = accuracy_score(y, guesses.argmax(axis=1))
        run.log_metrics({"val_loss": losses[-1], "val_accuracy": accuracy}, step=tree)
    best = min(range(len(losses)), key=losses.__getitem__)
    return {"best_tree": best, "best_val_loss": losses[best], "last_val_loss": losses[-1]}


def report(
    run: ActiveRun, chosen: Configuration, model: Any, names: Sequence[str], best: dict[str, float]
) -> None:
    ranked = sorted(zip(model.feature_importances_, names, strict=True), reverse=True)
    rows = [[name, f"{weight:.6f}"] for weight, name in ranked]
    with TemporaryDirectory() as folder:
        run.log_artifact(
            write_csv(Path(folder, "feature_importances.csv"), ["feature", "importance"], rows),
            "evaluation",
        )
        summary = Path(folder, "summary.json")
        summary.write_text(json.dumps(best, indent=2))
        run.log_artifact(summary, "evaluation")
        facts = {**asdict(chosen), **best}
        run.log_artifact(
            write_card(Path(folder, "model_card.md"), "Breast cancer, boosting", facts)
        )
        run.flush(30)  # the folder goes when this block ends


def main(arguments: Sequence[str] | None = None) -> list[ActiveRun]:
    """Train every configuration; returns the runs."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--url", help="the server (STEPWELL_URL, http://127.0.0.1:7837)")
    options.add_argument("--trees", type=int, default=200)
    parsed = options.parse_args(arguments)
    tracker = ExperimentTracker(parsed.url)
    patients = load_breast_cancer()
    train_x, valid_x, train_y, valid_y = train_test_split(
        patients.data, patients.target, test_size=0.3, random_state=0, stratify=patients.target
    )
    runs = []
    for chosen in CONFIGURATIONS:
        tags = {"dataset": "breast-cancer", "framework": f"scikit-learn {sklearn.__version__}"}
        config = RunConfig(chosen.name, tags=tags, params={**asdict(chosen), "trees": parsed.trees})
        with tracker.start_run(EXPERIMENT, config) as run:
            model = fit(run, chosen, (train_x, train_y), parsed.trees)
            best = validate(run, model, valid_x, valid_y)
            report(run, chosen, model, list(patients.feature_names), best)
        print(f"{EXPERIMENT}  {run.run_id}  {chosen.name}", flush=True)
        runs.append(run)
    return runs


if __name__ == "__main__":
    main()
