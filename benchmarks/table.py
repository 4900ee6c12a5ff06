"""Figures by row and system as a Markdown table, each with its ratio to one column."""

from __future__ import annotations

from pathlib import Path

import msgspec

from benchmarks.report import machine, versions


class Figures(msgspec.Struct):
    """By row, then by column; which rows are better the more they have."""

    columns: list[str] = []
    rows: dict[str, dict[str, float]] = {}
    more: list[str] = []
    notes: list[str] = []


class Table:
    """``anchor`` is the column that the ratios are to."""

    def __init__(self, anchor: str, saved: Path | None = None) -> None:
        """With what ``saved`` holds of an earlier part of the same comparison, if it is there."""
        self._anchor = anchor
        self._saved = saved
        self._found = Figures()
        if saved is not None and saved.exists():
            self._found = msgspec.json.decode(saved.read_bytes(), type=Figures)

    def add(self, row: str, column: str, value: float, *, more: bool = False) -> None:
        """``more`` says that more is better in this row."""
        self._found.rows.setdefault(row, {})[column] = value
        if column not in self._found.columns:
            self._found.columns.append(column)
        if more and row not in self._found.more:
            self._found.more.append(row)

    def add_most(self, row: str, column: str, value: float) -> None:
        """The greatest of what is added in several parts."""
        self.add(row, column, max(value, self._found.rows.get(row, {}).get(column, value)))

    def note(self, text: str) -> None:
        if text not in self._found.notes:
            self._found.notes.append(text)

    def save(self) -> None:
        if self._saved is not None:
            self._saved.write_bytes(msgspec.json.encode(self._found))

    def markdown(self) -> str:
        columns = self._found.columns
        lines = ["| what | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
        for row, values in self._found.rows.items():
            cells = [self._cell(row, values, column) for column in columns]
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
        names, place = versions(), machine()
        libraries = ", ".join(f"{name} {names[name]}" for name in ("stepwell", "python", "sqlite"))
        lines += ["", f"{'; '.join(self._found.notes)}; {libraries}."]
        lines += [f"{place['cpu']}, {place['cores']} cores, {place['memory_gb']} GB,"]
        lines += [f"a 4 KiB write with fsync {place['fsync_ms']} ms, load {place['load_1m']:.1f}."]
        return "\n".join(lines)

    def _cell(self, row: str, values: dict[str, float], column: str) -> str:
        """A figure, and how many times better it is than the anchor's."""
        value, anchor = values.get(column), values.get(self._anchor)
        if value is None:
            return ""
        text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        if column == self._anchor or not value or not anchor:
            return text
        better = value / anchor if row in self._found.more else anchor / value
        return f"{text} ({better:,.3g} x)"
