"""Many runs as columns over HTTP."""

import struct
import uuid

import msgspec

from stepwell import wire
from stepwell_tracker import schema
from tests.tracker.checked import RUNS, CheckedClient

COLUMNS = f"{RUNS}/columns"


async def columns(client: CheckedClient, **query: object) -> schema.ColumnarRuns:
    response = await client.get(COLUMNS, params=query)  # type: ignore[arg-type]
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == wire.COLUMNS
    return msgspec.msgpack.decode(response.content, type=schema.ColumnarRuns)


async def test_a_sweep_is_one_answer(client: CheckedClient):
    made = []
    for number, lr in enumerate(["0.1", "0.01", "0.1"]):
        params = {"lr": lr} if number else {"lr": lr, "seed": 1}
        made.append(await client.new_run(name=f"run-{number}", params=params, start_time=number))
    logged = {"metrics": {"loss": "NaN"}, "step": 1, "timestamp": 1}
    await client.ok("POST", f"{RUNS}/{made[2]}/log-metrics", json=logged)
    logged = {"metrics": {"loss": 0.5, "other": 1}, "step": 1, "timestamp": 1}
    await client.ok("POST", f"{RUNS}/{made[1]}/log-metrics", json=logged)

    found = await columns(client, keys=["lr", "seed", "loss", "nothing"])
    assert (found.format, found.total) == (1, 3)
    assert found.run_ids.hex() == "".join(reversed(made))
    assert found.names == ["run-2", "run-1", "run-0"]
    told = [(one.key, one.words, struct.unpack("<3i", one.places)) for one in found.params]
    assert told == [("lr", ["0.1", "0.01"], (0, 1, 0)), ("seed", ["1"], (-1, -1, 0))]
    [loss] = found.metrics
    values = struct.unpack("<3d", loss.values)
    assert (loss.key, values[1], loss.present) == ("loss", 0.5, b"\1\1\0")
    assert values[0] != values[0]

    found = await columns(client, filter="params.lr = '0.1'", keys="lr", limit=1)
    assert (found.names, found.total, found.metrics) == (["run-2"], 2, [])
    bare = await columns(client, order_by="attributes.name ASC")
    assert (bare.names, bare.params, bare.metrics) == (["run-0", "run-1", "run-2"], [], [])


async def test_an_empty_tenant_has_an_empty_sweep(client: CheckedClient):
    assert (await columns(client, keys="lr")) == schema.ColumnarRuns(1, b"", [], [], [], 0)


async def test_a_wrong_question_is_refused(client: CheckedClient):
    await client.refused(422, "GET", COLUMNS, params={"limit": schema.MAX_RUNS_IN_COLUMNS + 1})
    keys = [f"k{n}" for n in range(schema.MAX_KEYS_IN_COLUMNS + 1)]
    problem = await client.refused(422, "GET", COLUMNS, params={"keys": keys})
    assert problem.errors is not None
    assert problem.errors[0].path == "keys"
    await client.refused(422, "GET", COLUMNS, params={"filter": "params.lr = = 3"})
    await client.refused(404, "GET", COLUMNS, params={"experiment_id": str(uuid.uuid4())})
