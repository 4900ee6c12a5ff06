"""What MLflow's own parser lets pass, spelt as ours wants it.

A blank filter it refuses; more AND than needed, a comma at the end of a list, a key in single
quotes and an empty key (which no run has) it takes.  Programs that put filters together from parts
rely on that.
"""

from __future__ import annotations

from typing import Final

from stepwell_storage.errors import Invalid
from stepwell_storage.tokens import Token, tokens

_NO_KEY: Final = '"\1"'
"""A key that nothing has: none has control characters."""


def respelt(text: str) -> str:
    """The same filter, or item of an order; one that is no sequence of words stays as it is."""
    try:
        found = tokens(text, "filter")
    except Invalid:
        return text  # the parser says the same, in the words of its caller
    parts: list[str] = []
    place = written = 0
    kept = found[-1]  # the end: what stands in front of the first one
    for token, following in zip(found, [*found[1:], found[-1]], strict=True):
        parts.append(text[place : token.start])
        place = token.end
        if _is_idle(token, kept, following):
            parts.append(" " * len(token.text))
            continue
        if token.kind == "end" and kept.keyword == "and":
            parts[written] = " " * len(kept.text)
        written = len(parts)
        parts.append(_key(token, kept, following))
        kept = token
    spelt = "".join(parts)
    return spelt if spelt.strip() or len(found) == 1 else ""  # nothing but AND is no blank filter


def _is_idle(token: Token, kept: Token, following: Token) -> bool:
    """Whether it says nothing: an AND without two sides, a comma that ends a list."""
    if token.keyword == "and":
        return kept.kind == "end" or kept.keyword == "and"
    return token.text == "," and kept.kind in ("quoted", "number") and following.text == ")"


def _key(token: Token, kept: Token, following: Token) -> str:
    if token.kind == "word" and token.text.endswith("."):
        is_quoted = following.kind == "quoted" and following.start == token.end
        return token.text if is_quoted else token.text + _NO_KEY
    if token.kind == "quoted" and kept.text.endswith(".") and kept.end == token.start:
        if len(token.text) == len("''"):
            return _NO_KEY
        if token.text[0] == "'":
            return "`" + token.text[1:-1].replace("\\", "\\\\").replace("`", "``") + "`"
    return token.text
