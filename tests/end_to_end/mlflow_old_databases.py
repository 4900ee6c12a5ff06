"""Databases as older versions of MLflow left them: run by MLflow's Python, not by ours.

``python mlflow_old_databases.py FOLDER EVERY`` lets MLflow's own migrations build its schema and
stops at each EVERY-th of them, and at the last, to write a run into a copy of it.
"""

import contextlib
import shutil
import sqlite3
import sys
from pathlib import Path

from alembic import command
from alembic.script import ScriptDirectory
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base
from sqlalchemy import create_engine

RUN = "0123456789abcdef" * 2


def main(folder: Path, every: int) -> None:
    base = folder / "base.db"
    config = _get_alembic_config(f"sqlite:///{base}")
    engine = create_engine(f"sqlite:///{base}")
    Base.metadata.create_all(engine)
    engine.dispose()
    found = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    revisions = found[::-1]
    for number, revision in enumerate(revisions):
        if number % every == 0 or revision == revisions[-1]:
            command.upgrade(config, revision)
            copy = folder / f"{number:03}_{revision}.db"
            shutil.copyfile(base, copy)
            with contextlib.closing(sqlite3.connect(copy)) as db:
                fill(db)
                db.commit()
    base.unlink()


def fill(db: sqlite3.Connection) -> None:
    for number, name in ((0, "Default"), (3, "old")):
        place = f"./mlruns/{number}"
        put(db, "experiments", experiment_id=number, name=name, lifecycle_stage="active",
            artifact_location=place, creation_time=5, last_update_time=6)  # fmt: skip
    put(db, "runs", run_uuid=RUN, name="first", source_type="LOCAL", source_name="train.py",
        user_id="me", status="FINISHED", start_time=10, end_time=20, lifecycle_stage="active",
        artifact_uri=f"./mlruns/3/{RUN}/artifacts", experiment_id=3)  # fmt: skip
    put(db, "params", run_uuid=RUN, key="lr", value="0.1")
    put(db, "tags", run_uuid=RUN, key="mlflow.note.content", value="words")
    for step in range(50):
        put(db, "metrics", run_uuid=RUN, key="loss", value=1 / (step + 1), timestamp=100 + step,
            step=step, is_nan=0)  # fmt: skip


def put(db: sqlite3.Connection, table: str, **row: object) -> None:
    """The columns that there are; those that must not be null and are not given are empty."""
    names, values = [], []
    for _, name, kind, needed, default, _ in db.execute(f"pragma table_info({table})"):
        if name in row:
            names.append(name)
            values.append(row[name])
        elif needed and default is None:
            names.append(name)
            values.append("" if "CHAR" in kind else 0)
    marks = ", ".join("?" * len(names))
    statement = f"insert into {table} ({', '.join(names)}) values ({marks})"  # noqa: S608
    db.execute(statement, values)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
