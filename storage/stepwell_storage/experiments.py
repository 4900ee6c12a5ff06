"""Reading experiments."""

from collections.abc import Sequence

from stepwell_storage import cursors, listing
from stepwell_storage.catalog import experiment_of
from stepwell_storage.database import Reader, in_list
from stepwell_storage.errors import NotFound
from stepwell_storage.names import pages
from stepwell_storage.records import Experiment, ExperimentPage, ListQuery, NewRun, Run
from stepwell_storage.statements import sql


async def find(reader: Reader, statement: str, what: str | int) -> Experiment:
    """One experiment, by the statement that looks for it.  Raises NotFound."""
    rows = await reader.fetch(statement, (what,))
    if not rows:
        raise NotFound(f"there is no experiment {what!r}")
    return (await _complete(reader, [experiment_of(rows[0])]))[0]


async def page(
    reader: Reader, *, lifecycle: str, limit: int, offset: int, cursor: str | None
) -> ExperimentPage:
    """Experiments in the order in which they were made."""
    after = cursors.decode("experiments", cursor)[0] if cursor else -1
    binds = (lifecycle, lifecycle, after, limit + 1, offset)
    rows = await reader.fetch(sql.experiments, binds)
    found = await _complete(reader, [experiment_of(row) for row in rows[:limit]])
    more = len(rows) > limit
    next_cursor = cursors.encode("experiments", found[-1].number) if more else None
    total = (await reader.fetch(sql.count_experiments, (lifecycle, lifecycle)))[0][0]
    return ExperimentPage(found, next_cursor, total)


async def search(reader: Reader, query: ListQuery) -> tuple[list[Experiment], str | None]:
    """A page in the filter's language, with the next cursor; without run counts."""
    numbers, cursor = await listing.find(reader, listing.EXPERIMENTS, query)
    return await numbered(reader, numbers), cursor


async def numbered(reader: Reader, numbers: Sequence[int]) -> list[Experiment]:
    """Those of the experiments that exist, in this order; without run counts."""
    found: dict[int, Experiment] = {}
    for some in pages(numbers):
        for row in await reader.fetch(in_list(sql.experiments_by_numbers, len(some)), some):
            found[row[0]] = experiment_of(row)
        tags = await reader.fetch(in_list(sql.experiment_tags, len(some)), some)
        for number, name, value in tags:
            found[number].tags[name] = value
    return [found[number] for number in numbers if number in found]


async def _complete(reader: Reader, bare: Sequence[Experiment]) -> list[Experiment]:
    """The same with their tags and run counts."""
    tags: dict[int, dict[str, str]] = {}
    counts: dict[int, int] = {}
    for numbers in pages([experiment.number for experiment in bare]):
        rows = await reader.fetch(in_list(sql.experiment_tags, len(numbers)), numbers)
        for number, name, value in rows:
            tags.setdefault(number, {})[name] = value
        counts.update(await reader.fetch(in_list(sql.run_counts, len(numbers)), numbers))
    return [
        Experiment(
            experiment_id=e.experiment_id,
            number=e.number,
            name=e.name,
            description=e.description,
            lifecycle=e.lifecycle,
            created_at=e.created_at,
            updated_at=e.updated_at,
            tags=tags.get(e.number, {}),
            run_count=counts.get(e.number, 0),
            artifact_location=e.artifact_location,
        )
        for e in bare
    ]


def just_created(new: NewRun, experiment: Experiment, now: int) -> Run:
    """A run as it is right after its creation, without reading it back."""
    return Run(
        run_id=new.run_id,
        experiment_id=experiment.experiment_id,
        experiment_number=experiment.number,
        name=new.name,
        description=new.description,
        user_id=new.user_id,
        parent_run_id=new.parent_run_id,
        status=new.status,
        start_time=new.start_time,
        end_time=None,
        heartbeat_at=now,
        lifecycle="active",
        stop_requested=False,
        tags=dict(sorted(new.tags.items())),
        params=dict(sorted(new.params.items())),
    )
