"""What the committer remembers of the runs that are being written."""

from collections import OrderedDict
from collections.abc import Iterable

from stepwell_storage.database import Reader, in_list
from stepwell_storage.names import pages
from stepwell_storage.statements import sql

MAX_CACHED_RUNS = 20_000
MAX_CACHED_KEYS = 2_000_000


class RunState:
    """A run as its writer needs it.  ``keys`` are its series, loaded when first needed."""

    __slots__ = ("deleted", "experiment", "id", "keys", "run_id", "stop_requested")

    def __init__(self, id: int, run_id: str, experiment: int) -> None:
        self.id = id
        self.run_id = run_id
        self.experiment = experiment
        self.deleted = False
        self.stop_requested = False
        self.keys: set[int] | None = None


class Runs:
    """The cache of run states, oldest first.  Only the committer's side fills it."""

    def __init__(self) -> None:
        self._states: OrderedDict[str, RunState] = OrderedDict()
        self.version = 0

    def get(self, run_id: str) -> RunState | None:
        return self._states.get(run_id)

    def put(self, state: RunState) -> RunState:
        """Remember a committed run.  A state that is there already stays: it knows more."""
        return self._states.setdefault(state.run_id, state)

    def drop(self, run_id: str) -> None:
        """A run is gone for good."""
        self.version += 1
        self._states.pop(run_id, None)

    def changed(self) -> None:
        """A run was deleted, restored or asked to stop: what is being read may be old."""
        self.version += 1

    async def load(self, reader: Reader, run_ids: Iterable[str]) -> None:
        """Learn which of ``run_ids`` exist.  Learns nothing when a change overtook the read."""
        missing = [run_id for run_id in run_ids if run_id not in self._states]
        for page in pages(missing):
            version = self.version
            rows = await reader.fetch(in_list(sql.runs_by_ids, len(page)), page)
            if version != self.version:
                return
            for run_id, number, experiment, lifecycle, stop_requested in rows:
                state = RunState(number, run_id, experiment)
                state.deleted = lifecycle == "deleted"
                state.stop_requested = bool(stop_requested)
                self.put(state)

    async def existing(self, reader: Reader, run_ids: Iterable[str]) -> set[str]:
        """Those of ``run_ids`` that exist.  Learns nothing, as ``reader`` may be a transaction,
        and what that has written may be rolled back."""
        found = set(run_ids)
        unknown = [run_id for run_id in found if run_id not in self._states]
        found.difference_update(unknown)
        for page in pages(unknown):
            rows = await reader.fetch(in_list(sql.runs_by_ids, len(page)), page)
            found.update(row[0] for row in rows)
        return found

    def in_experiment(self, experiment: int) -> list[RunState]:
        return [state for state in self._states.values() if state.experiment == experiment]

    def trim(self) -> None:
        """Forget the oldest ones beyond the bounds; a run that is written again is looked up.

        Called between groups, now and then: what waits in the queue has its state along.
        """
        keys = sum(len(state.keys) for state in self._states.values() if state.keys)
        while len(self._states) > MAX_CACHED_RUNS or (keys > MAX_CACHED_KEYS and self._states):
            _, state = self._states.popitem(last=False)
            keys -= len(state.keys or ())
