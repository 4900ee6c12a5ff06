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
    """The cache of run states, least recently used first.  Only the committer's side fills it."""

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

    def touch(self, run_id: str) -> None:
        self._states.move_to_end(run_id)

    def in_experiment(self, experiment: int) -> list[RunState]:
        return [state for state in self._states.values() if state.experiment == experiment]

    def trim(self) -> None:
        """Forget the runs that were not written for longest.  Called between groups."""
        keys = sum(len(s.keys) for s in self._states.values() if s.keys) if self._states else 0
        while len(self._states) > MAX_CACHED_RUNS or (keys > MAX_CACHED_KEYS and self._states):
            _, state = self._states.popitem(last=False)
            keys -= len(state.keys or ())
