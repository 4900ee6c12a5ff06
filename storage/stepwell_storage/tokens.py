"""The words of the filter language: text -> tokens, each with its place in the text.

========  =======================================================================================
word      a letter or ``_``, then letters, digits and ``_ . - / :`` of any script: a keyword, a
          function, or a field such as ``metrics.val/loss``
quoted    text in ``'``, ``"`` or a backtick; inside, the quote is written twice or after a
          backslash, a backslash may be written twice, and any other backslash is itself
number    ``-2``, ``.5``, ``1.4e3``, and ``inf``, ``infinity`` and ``nan`` with a sign
sign      ``= != < <= > >= ( ) ,``
========  =======================================================================================
"""

import re
from typing import Final, Literal, NamedTuple

from stepwell_storage.errors import Invalid, LimitExceeded

MAX_CHARS: Final = 10_000

Kind = Literal["word", "quoted", "number", "sign", "end"]

_TOKEN: Final = re.compile(
    r"""
    (?P<word>   [^\W\d][\w.\-/:]* )
  | (?P<quoted> '(?:[^'\\]|''|\\.)*+' | "(?:[^"\\]|""|\\.)*+" | `(?:[^`\\]|``|\\.)*+` )
  | (?P<number> [+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.])
              | [+-](?:inf|infinity|nan)\b )
  | (?P<sign>   <= | >= | != | [=<>(),] )
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_SPACE: Final = re.compile(r"\s*")
_NOT_A_NUMBER: Final = re.compile(r"[+-]?\.?\d[\w.]*")
_MISSPELT: Final = {"==": "=", "<>": "!=", "&&": "and", "||": "or", "!": "not"}


class Token(NamedTuple):
    """``text`` as it was written, ``start`` and ``end`` its place, counted from 0."""

    kind: Kind
    text: str
    start: int
    end: int

    @property
    def keyword(self) -> str:
        """The word in lower case; empty for anything else."""
        return self.text.lower() if self.kind == "word" else ""

    def __str__(self) -> str:
        if self.kind == "end":
            return "the end"
        return self.text if len(self.text) <= 40 else self.text[:40] + "..."


def invalid(path: str, position: int, message: str) -> Invalid:
    """The error that names the place of what is wrong; people count characters from 1."""
    return Invalid(path, f"at character {position + 1}: {message}")


def tokens(text: str, path: str) -> list[Token]:
    """The tokens of a text, and one of kind ``end``.  ``path`` names the field in errors."""
    if len(text) > MAX_CHARS:
        raise LimitExceeded(path, f"longer than {MAX_CHARS:,} characters")
    _refuse_unstorable(text, path)
    found = []
    position = _skip(text, 0)
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or text.startswith(("==", "<>"), position):
            raise _explained(text, position, path)
        kind: Kind = match.lastgroup  # type: ignore[assignment]  # the groups are the kinds
        found.append(Token(kind, match.group(), match.start(), match.end()))
        position = _skip(text, match.end())
    found.append(Token("end", "", len(text), len(text)))
    return found


def unquote(token: Token) -> str:
    """What stands between the quotes of a ``quoted`` token."""
    quote = token.text[0]
    parts = re.split(rf"\\([\\{quote}])|{quote}({quote})", token.text[1:-1])
    return "".join(part for part in parts if part is not None)


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _refuse_unstorable(text: str, path: str) -> None:
    """No database holds these, so nothing could ever equal them."""
    bad = re.search("[\0\ud800-\udfff]", text)
    if bad:
        raise invalid(
            path, bad.start(), f"the character U+{ord(bad.group()):04X} cannot stand here"
        )


def _explained(text: str, position: int, path: str) -> Invalid:
    char = text[position]
    for wrong, right in _MISSPELT.items():
        if text.startswith(wrong, position):
            return invalid(path, position, f"write {right} instead of {wrong}")
    if char in "'\"`":
        return invalid(path, position, f"this {char} is never closed")
    number = _NOT_A_NUMBER.match(text, position)
    if number:
        return invalid(path, position, f"{number.group()[:40]} is no number")
    return invalid(path, position, f"unexpected {char!r}")
