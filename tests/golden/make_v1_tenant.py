"""How v1_tenant.db was made, for the record: `python -m tests.golden.make_v1_tenant FOLDER`.

Never run to replace it: a file that a released version wrote is what newer ones must read.
"""

import asyncio
import json
import sys
from array import array
from pathlib import Path

import numpy as np

from stepwell_storage.records import Batch, ConsoleLine, NewRun, RunChange
from stepwell_storage.store import Options, Store

RUN = "018d9c4230808f13be8df00000000001"
SPECIAL = [0.0, -0.0, float("nan"), float("inf"), -float("inf"), 5e-324, 1.7e308]


def points(key: str, steps: range, values: list[float]) -> Batch:
    times = [1_707_723_600_000 + 1_000 * step for step in steps]
    columns = array("q", steps).tobytes(), array("q", times).tobytes()
    return Batch([key], [len(steps)], *columns, array("d", values).tobytes())


async def make(folder: Path) -> None:
    store = await Store.open(folder / "data", Options(compact=False))
    async with store.lease("acme-corp", create=True) as tenant:
        new = NewRun(
            RUN, "golden", 1_707_723_600_000, experiment_name="e", user_id="alice",
            params={"lr": "0.01"}, tags={"team": "a"},
        )  # fmt: skip
        await tenant.create_run(new)
        smooth = np.exp(-np.arange(9_000) / 500).tolist()
        await tenant.log(RUN, points("loss", range(9_000), smooth))
        await tenant.log(RUN, points("special", range(7), SPECIAL))
    await store.compact("acme-corp")
    async with store.lease("acme-corp", create=False) as tenant:
        await tenant.log(RUN, points("loss", range(8_900, 9_100), [0.5] * 200))
        await tenant.log_console(RUN, [ConsoleLine("stdout", 1_707_723_600_000, "epoch 1")])
        await tenant.change_run(RUN, RunChange(status="finished", end_time=1_707_723_700_000))
        expected = {}
        for key in ("loss", "special"):
            found = await tenant.points(RUN, key)
            expected[key] = [list(found.position(row)) for row in range(len(found))]
    await store.close()
    (folder / "v1_tenant.db").write_bytes(
        (folder / "data/tenants/acme-corp/tenant.db").read_bytes()
    )
    (folder / "v1_tenant.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    asyncio.run(make(Path(sys.argv[1])))
