"""The client's spool at work on a watched disk: ``spool_work.py FOLDER SEED``, the shim preloaded.

Appends numbered records and acknowledges some of them, in small segments.
"""

import random
import sys
from pathlib import Path

from stepwell import spool as module
from stepwell.config import Config
from stepwell.records import Head, Tags, frame
from stepwell.spool import Spool

RECORDS = 400
HEAD = Head("http://127.0.0.1:7837", "default", "ab" * 16)


def record_of(number: int) -> Tags:
    return Tags({"n": str(number), "filling": "x" * (number * 37 % 900)})


def main() -> None:
    folder, rng = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
    module.SEGMENT_BYTES = 20_000  # type: ignore[misc]  # a constant of the product's
    spool = Spool.create(Config(spool_dir=folder / "spool"), HEAD)
    for number in range(RECORDS):
        assert spool.append([frame(record_of(number))], 2, False)
        if rng.random() < 0.05:
            spool.acknowledge(spool.read(rng.randint(1_000, 30_000)))
    spool.forget()  # as a killed process leaves it


if __name__ == "__main__":
    main()
