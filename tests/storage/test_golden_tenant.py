"""A tenant's file of any version opens, says what it said, verifies, and can be written on."""

import gzip
import json
import shutil
from pathlib import Path

import pytest

from stepwell_storage.check import verify
from stepwell_storage.store import Options, Store
from tests.golden.make_v1_tenant import RUN
from tests.storage.conftest import batch

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("version", [1, 2, 3, 4])
async def test_a_file_of_any_version_is_read_and_written_on(tmp_path: Path, version: int):
    folder = tmp_path / "tenants" / "acme-corp"
    folder.mkdir(parents=True)
    shutil.copy(GOLDEN / f"v{version}_tenant.db", folder / "tenant.db")
    expected = json.loads(gzip.decompress((GOLDEN / "v1_tenant.json.gz").read_bytes()))
    assert (await verify(tmp_path)).problems == []  # in a copy: the file stays what it is
    assert (folder / "tenant.db").read_bytes() == (GOLDEN / f"v{version}_tenant.db").read_bytes()
    store = await Store.open(tmp_path, Options(compact=False))
    for _ in range(2):  # as it is, then compacted
        async with store.lease("acme-corp", create=False) as tenant:
            for key, positions in expected.items():
                found = await tenant.points(RUN, key)
                assert [list(found.position(row)) for row in range(len(found))] == positions
            run = await tenant.run(RUN)
            assert (run.status, run.end_time, run.user_id) == (
                "finished",
                1_707_723_700_000,
                "alice",
            )
            assert (run.params, run.tags) == ({"lr": "0.01"}, {"team": "a"})
            assert (await tenant.console(RUN)).lines == [
                (0, "stdout", 1_707_723_600_000, "epoch 1")
            ]
        await store.compact("acme-corp")
    async with store.lease("acme-corp", create=False) as tenant:
        await tenant.log(RUN, batch("new", range(10)))
        assert len(await tenant.points(RUN, "new")) == 10
    await store.close()
    assert (await verify(tmp_path)).problems == []
