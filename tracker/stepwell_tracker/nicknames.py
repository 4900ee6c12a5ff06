"""Names for runs that were given none: something to say aloud, like ``amber-otter-417``."""

from __future__ import annotations

import secrets

_ADJECTIVES = (
    "amber bold brave brisk bright calm clear clever coral crisp dawn deep early eager fair fleet"
    " fresh gentle glad golden green happy hazel icy jolly keen kind late light lively lucid lucky"
    " lunar mellow merry mild misty neat noble north opal pale plain proud quick quiet rapid royal"
    " rustic sage sharp shy silent silver sleek smooth snowy solar south stable steady still stout"
    " sunny swift tidy vivid warm west wild wise young"
)
_NOUNS = (
    "acorn alder aspen badger basin bay beech birch bison brook canyon cedar cliff cloud comet"
    " cove crane creek delta dune eagle elm falcon fern field finch fjord forest fox glacier grove"
    " harbor hare hawk heron hill island ivy jay juniper lagoon lake larch lark lynx maple marsh"
    " meadow mesa moon moss oak ocean orchid osprey otter owl peak pine plover pond prairie quail"
    " raven reef ridge river robin shore sparrow spring spruce star stone stream summit swan"
    " thicket tide trout tulip valley wave willow wolf wren"
)


def nickname() -> str:
    """A readable name.  Names of runs need not be unique, so chance is enough."""
    number = secrets.randbelow(900) + 100
    return f"{secrets.choice(_ADJECTIVES.split())}-{secrets.choice(_NOUNS.split())}-{number}"
