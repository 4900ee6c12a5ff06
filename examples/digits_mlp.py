"""Handwritten digits (scikit-learn's 1,797 real images) and a small neural network.

The network is trained minibatch by minibatch; every step's loss is logged, and after each epoch the
loss and accuracy on images that it has not seen.  Run it beside a server: ``make run``, then

    python -m examples.digits_mlp --url http://127.0.0.1:7837
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import sklearn
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from examples.reports import write_card, write_csv, write_mosaic
from stepwell import ActiveRun, ExperimentTracker, RunConfig

EXPERIMENT = "digits-mlp"
CLASSES = list(range(10))


@dataclass(frozen=True)
class Configuration:
    name: str
    hidden: int
    learning_rate: float
    l2: float = 1e-4
    batch_size: int = 32


CONFIGURATIONS = (
    Configuration("narrow", hidden=16, learning_rate=1e-3),
    Configuration("wide", hidden=128, learning_rate=1e-3),
    Configuration("wide-regularised", hidden=128, learning_rate=1e-3, l2=1.0),
    Configuration("impatient", hidden=64, learning_rate=3e-2),
)


def load() -> Any:
    """Training and validation images (pixels from 0 to 1), then their digits."""
    digits = load_digits()
    return train_test_split(
        digits.data / 16, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )


def train(run: ActiveRun, chosen: Configuration, data: Any, epochs: int) -> Any:
    """Train, logging every step; returns the model."""
    train_x, valid_x, train_y, valid_y = data
    model = MLPClassifier(
        (chosen.hidden,), learning_rate_init=chosen.learning_rate, alpha=chosen.l2, random_state=0
    )
    order = np.random.default_rng(0)
    step = 0
    for epoch in range(epochs):
        for batch in np.array_split(
            order.permutation(len(train_x)), len(train_x) // chosen.batch_size
        ):
            model.partial_fit(train_x[batch], train_y[batch], classes=CLASSES)
            run.log_metrics({"train_loss": model.loss_}, step=step)
            step += 1
        guesses = model.predict_proba(valid_x)
        run.log_metrics(
            {
                "epoch": epoch,
                "val_loss": log_loss(valid_y, guesses, labels=CLASSES),
                "val_accuracy": accuracy_score(valid_y, guesses.argmax(axis=1)),
                "train_accuracy": model.score(train_x, train_y),
            },
            step=step - 1,
        )
    return model


def report(run: ActiveRun, chosen: Configuration, model: Any, data: Any) -> None:
    """What a person wants to look at afterwards, as artifacts."""
    _, valid_x, _, valid_y = data
    guesses = model.predict(valid_x)
    matrix = confusion_matrix(valid_y, guesses, labels=CLASSES)
    accuracy = float(accuracy_score(valid_y, guesses))
    with TemporaryDirectory() as folder:
        rows = [[str(digit), *map(str, row)] for digit, row in zip(CLASSES, matrix, strict=True)]
        header = ["digit", *(f"taken for {digit}" for digit in CLASSES)]
        run.log_artifact(
            write_csv(Path(folder, "confusion_matrix.csv"), header, rows), "evaluation"
        )
        run.log_artifact(
            write_mosaic(Path(folder, "first_layer.png"), model.coefs_[0].T.reshape(-1, 8, 8))
        )
        facts = {**asdict(chosen), "validation accuracy": accuracy, "images": len(valid_y)}
        run.log_artifact(write_card(Path(folder, "model_card.md"), "Digits, MLP", facts))
        run.flush(30)  # the folder goes when this block ends


def main(arguments: Sequence[str] | None = None) -> list[ActiveRun]:
    """Train every configuration; returns the runs."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--url", help="the server (STEPWELL_URL, http://127.0.0.1:7837)")
    options.add_argument("--epochs", type=int, default=25)
    parsed = options.parse_args(arguments)
    tracker = ExperimentTracker(parsed.url)
    data = load()
    runs = []
    for chosen in CONFIGURATIONS:
        tags = {"dataset": "digits", "framework": f"scikit-learn {sklearn.__version__}"}
        config = RunConfig(chosen.name, tags=tags, params=asdict(chosen))
        with tracker.start_run(EXPERIMENT, config) as run:
            model = train(run, chosen, data, parsed.epochs)
            report(run, chosen, model, data)
        print(f"{EXPERIMENT}  {run.run_id}  {chosen.name}", flush=True)
        runs.append(run)
    return runs


if __name__ == "__main__":
    main()
