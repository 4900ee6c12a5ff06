"""What an import says at its end: both sides counted and summed, ours read back from the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from stepwell_storage import fingerprints
from stepwell_storage.exports import all_experiments, all_models, all_registered
from stepwell_storage.names import pages
from stepwell_storage.records import Experiment, ModelVersion, RegisteredModel, Run
from stepwell_storage.tenant import Tenant
from stepwell_tracker.porting.importing import Outcome, Sums, differences, stored
from stepwell_tracker.porting.importing_models import Models, of_model, of_registered
from stepwell_tracker.porting.places import Places

_PAGE_RUNS: Final = 200


@dataclass(slots=True)
class Side:
    """Counts and checksums by kind."""

    counts: dict[str, int] = field(default_factory=dict)
    checksums: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, count: int, checksum: int) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + count
        held = self.checksums.get(kind, 0)
        self.checksums[kind] = (held + checksum) & fingerprints.MASK

    def add_run(self, run: Run, sums: Sums) -> None:
        self.add("runs", 1, fingerprints.of_run(run))
        self.add("parameters", len(run.params), fingerprints.of_params(run))
        self.add("tags", len(run.tags), fingerprints.of_tags(run))
        links = len(run.datasets) + len(run.models)
        self.add("dataset and model links", links, fingerprints.of_links(run))
        self.add("points", sums.points, sums.checksum)


@dataclass(slots=True)
class Compared:
    """``changed_here`` are things that were imported earlier and are no longer as they were."""

    source: Side = field(default_factory=Side)
    here: Side = field(default_factory=Side)
    changed_here: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def rows(self) -> list[tuple[str, int, int, str, bool]]:
        """Kind, count there, count here, checksum here, and whether both are equal."""
        found = []
        for kind, count in self.source.counts.items():
            ours = self.here.counts.get(kind, 0)
            checksum = self.here.checksums.get(kind, 0)
            equal = count == ours and checksum == self.source.checksums[kind]
            found.append((kind, count, ours, f"{checksum:016x}", equal))
        return found


async def compare(
    tenant: Tenant,
    places: Places,
    outcome: Outcome,
    models: Models,
    step: Callable[[int], None],
) -> Compared:
    compared = Compared()
    await _compare_experiments(tenant, places, compared)
    for some in pages(outcome.expected, _PAGE_RUNS):
        here = await stored(tenant, some)
        for run_id in some:
            _compare_run(outcome, run_id, here.get(run_id), compared)
        step(len(some))
    await _compare_models(tenant, models, compared)
    await _compare_registered(tenant, models, compared)
    return compared


async def _compare_experiments(tenant: Tenant, places: Places, compared: Compared) -> None:
    async with tenant.whole() as reader:
        here = {one.number: one for one in await all_experiments(reader)}
    for number, wanted in places.expected.items():
        found = here.get(wanted.number)
        same = found is not None and _of(found) == _of(wanted)
        if not same and number in places.passed_over:
            compared.changed_here.append(f"experiment {wanted.name!r}")
            continue
        compared.source.add("experiments", 1, _of(wanted))
        if found is not None:
            compared.here.add("experiments", 1, _of(found))
        if not same:
            compared.problems.append(f"experiment {wanted.name!r} is not here as it was")


def _of(experiment: Experiment) -> int:
    return fingerprints.of_experiment(experiment)


def _compare_run(
    outcome: Outcome, run_id: str, here: tuple[Run, Sums] | None, compared: Compared
) -> None:
    wanted = outcome.expected[run_id]
    what = ["everything"] if here is None else list(differences(wanted, here))
    if what and run_id in outcome.passed_over:
        compared.changed_here.append(f"run {run_id}: {', '.join(what)}")
        return
    compared.source.add_run(*wanted)
    if here is not None:
        compared.here.add_run(*here)
    if what:
        compared.problems.append(f"run {run_id} differs in {', '.join(what)}")


async def _compare_models(tenant: Tenant, models: Models, compared: Compared) -> None:
    compared.changed_here += models.changed_here
    compared.problems += models.problems
    missing = set(models.found) - models.left
    for name in missing:
        model, deleted = models.found[name]
        compared.source.add("logged models", 1, of_model(model, deleted=deleted))
    async with tenant.whole() as reader:
        async for model, deleted_at in all_models(reader):
            if model.model_id not in missing:
                continue
            wanted, deleted = models.found[model.model_id]
            here = of_model(model, deleted=deleted_at is not None)
            compared.here.add("logged models", 1, here)
            if here == of_model(wanted, deleted=deleted):
                missing.remove(model.model_id)
    compared.problems += [f"logged model {name} differs" for name in sorted(missing)]


async def _compare_registered(tenant: Tenant, models: Models, compared: Compared) -> None:
    for model, versions in models.registered.values():
        _add_registered(compared.source, model, versions)
    missing = set(models.registered)
    async with tenant.whole() as reader:
        async for model, versions in all_registered(reader):
            if model.name not in missing:
                continue
            _add_registered(compared.here, model, versions)
            if of_registered(model, versions) == of_registered(*models.registered[model.name]):
                missing.remove(model.name)
    compared.problems += [f"registered model {name!r} differs" for name in sorted(missing)]


def _add_registered(side: Side, model: RegisteredModel, versions: Sequence[ModelVersion]) -> None:
    side.add("registered models", 1, fingerprints.of_registered(model))
    checksum = fingerprints.total(fingerprints.of_version(one) for one in versions)
    side.add("model versions", len(versions), checksum)


def shown(problems: Iterable[str], most: int = 20) -> list[str]:
    """The first of many, and how many more there are."""
    found = list(problems)
    more = len(found) - most
    return found[:most] + ([f"... and {more} more"] if more > 0 else [])
