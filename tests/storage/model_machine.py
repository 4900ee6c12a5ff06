"""What a machine of test_model.py works on: a store that is compacted, closed, crashed, purged."""

import asyncio
import operator
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from stepwell_storage import writer
from stepwell_storage.check import verify
from stepwell_storage.errors import Conflict, NotFound
from stepwell_storage.store import Options, Store
from stepwell_storage.tenant import Tenant
from stepwell_storage.writer import FLUSH_INTERVAL_S


class Machine(RuleBasedStateMachine):
    """Every call is made by itself; test_races.py makes them at the same moment."""

    def __init__(self) -> None:
        super().__init__()
        self.folders: list[tempfile.TemporaryDirectory[str]] = []
        self.runner = asyncio.Runner()
        self.start(self.new_folder())

    @initialize(interval=st.sampled_from([0.0, 0.25]))
    def begin(self, interval: float) -> None:
        """At 0 every commit catches the statistics up, at 0.25 almost none does."""
        writer.FLUSH_INTERVAL_S = interval

    def new_folder(self) -> Path:
        self.folders.append(tempfile.TemporaryDirectory())
        return Path(self.folders[-1].name)

    def start(self, folder: Path) -> None:
        self.data = folder
        self.store = self.runner.run(Store.open(folder, Options(compact=False)))

    def ask(self, work: Callable[[Tenant], Awaitable[Any]]) -> Any:
        async def go() -> Any:
            async with self.store.lease("default", create=True) as tenant:
                return await work(tenant)

        return self.runner.run(go())

    def call(self, method: str, *args: object, **kwargs: object) -> Any:
        """A method of the tenant, or of a part of it: ``purges.run``."""
        return self.ask(lambda tenant: operator.attrgetter(method)(tenant)(*args, **kwargs))

    def refusal(self, method: str, *args: object, **kwargs: object) -> type[Exception] | None:
        """What kind of refusal the answer was; None where it was done."""
        try:
            self.call(method, *args, **kwargs)
        except (NotFound, Conflict) as error:
            return type(error)
        return None

    @rule()
    def restart(self) -> None:
        self.runner.run(self.store.close())
        self.start(self.data)

    @rule()
    def crash(self) -> None:
        """The files as they are at this moment, opened by another server."""
        folder = self.new_folder()
        shutil.copytree(self.data, folder, dirs_exist_ok=True)
        self.runner.run(self.store.close())
        self.start(folder)

    @rule(slices=st.integers(0, 3))
    def dispose(self, slices: int) -> None:
        """Some of the rows that purges left, or (0) all of them."""
        for _ in range(slices):
            self.call("purges.dispose")
        if not slices:
            self.runner.run(self.store.dispose("default"))

    def teardown(self) -> None:
        writer.FLUSH_INTERVAL_S = FLUSH_INTERVAL_S
        if self.store.exists("default"):
            self.runner.run(self.store.dispose("default"))
        self.runner.run(self.store.close())
        found = self.runner.run(verify(self.data))
        self.runner.close()
        for folder in self.folders:
            folder.cleanup()
        assert found.problems == []
