"""The part of test_model.py that is about the model registry."""

from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from stepwell_storage.errors import Conflict, NotFound
from stepwell_storage.records import NewVersion
from tests.storage.model_machine import Machine

MODELS = st.sampled_from(["net", "tree"])
VERSIONS = st.integers(1, 4)
ALIASES = st.sampled_from(["champion", "old"])


@dataclass
class ModelOfModels:
    """What the engine must say of a registered model; ``versions`` are numbers to stages."""

    next: int = 1
    versions: dict[int, str] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)


class RegistryAgainstDictionary(Machine):
    def __init__(self) -> None:
        super().__init__()
        self.models: dict[str, ModelOfModels] = {}

    def missing(self, name: str, version: int | None = None) -> type[Exception] | None:
        known = name in self.models
        if known and (version is None or version in self.models[name].versions):
            return None
        return NotFound

    @rule(name=MODELS)
    def register(self, name: str) -> None:
        expected = Conflict if name in self.models else None
        assert self.refusal("registry.create", name) is expected
        self.models.setdefault(name, ModelOfModels())

    @rule(old=MODELS, new=MODELS)
    def rename_model(self, old: str, new: str) -> None:
        expected = self.missing(old)
        if expected is None and new != old and new in self.models:
            expected = Conflict
        assert self.refusal("registry.rename", old, new) is expected
        if expected is None:
            self.models[new] = self.models.pop(old)

    @rule(name=MODELS)
    def unregister(self, name: str) -> None:
        assert self.refusal("registry.delete", name) is self.missing(name)
        self.models.pop(name, None)

    @rule(name=MODELS)
    def add_version(self, name: str) -> None:
        new = NewVersion(name, "s", "s", tags={"t": name})
        expected = self.missing(name)
        assert self.refusal("registry.create_version", new) is expected
        if expected is None:
            model = self.models[name]
            model.versions[model.next] = "None"
            model.next += 1

    @rule(name=MODELS, version=VERSIONS)
    def delete_version(self, name: str, version: int) -> None:
        expected = self.missing(name, version)
        assert self.refusal("registry.delete_version", name, version) is expected
        if expected is None:
            model = self.models[name]
            del model.versions[version]
            model.aliases = {alias: at for alias, at in model.aliases.items() if at != version}

    @rule(name=MODELS, version=VERSIONS, alias=ALIASES)
    def set_alias(self, name: str, version: int, alias: str) -> None:
        expected = self.missing(name, version)
        assert self.refusal("registry.set_alias", name, alias, version) is expected
        if expected is None:
            self.models[name].aliases[alias] = version

    @rule(name=MODELS, version=VERSIONS, archive=st.booleans())
    def stage(self, name: str, version: int, archive: bool) -> None:
        expected = self.missing(name, version)
        call = "registry.set_stage", name, version, "Production"
        assert self.refusal(*call, archive=archive) is expected
        if expected is None:
            stages = self.models[name].versions
            for other, stage in stages.items():
                if archive and stage == "Production":
                    stages[other] = "Archived"
            stages[version] = "Production"

    @invariant()
    def registered_models_are_those_of_the_dictionary(self) -> None:
        for name in ("net", "tree"):
            assert self.refusal("registry.get", name) is self.missing(name)
        for name, model in self.models.items():
            found = self.call("registry.get", name)
            assert found.aliases == model.aliases
            assert {one.version for one in found.latest} == newest(model.versions)
            for version in range(1, model.next + 1):
                if version not in model.versions:
                    assert self.refusal("registry.version", name, version) is NotFound
                    continue
                one = self.call("registry.version", name, version)
                assert (one.version, one.stage) == (version, model.versions[version])
                assert one.aliases == sorted(a for a, at in model.aliases.items() if at == version)
                assert one.tags.keys() == {"t"}


def newest(versions: dict[int, str]) -> set[int]:
    """The newest version of each stage."""
    return {max(n for n, s in versions.items() if s == stage) for stage in versions.values()}
