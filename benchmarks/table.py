"""Figures by row and system as a Markdown table, each with its ratio to one column."""

from __future__ import annotations

from benchmarks.report import machine, versions


class Table:
    """``anchor`` is the column that the ratios are to."""

    def __init__(self, anchor: str) -> None:
        self._anchor = anchor
        self._rows: dict[str, dict[str, float]] = {}
        self._more: set[str] = set()
        self._columns: list[str] = []
        self._notes: list[str] = []

    def add(self, row: str, column: str, value: float, *, more: bool = False) -> None:
        """``more`` says that more is better in this row."""
        self._rows.setdefault(row, {})[column] = value
        if column not in self._columns:
            self._columns.append(column)
        if more:
            self._more.add(row)

    def note(self, text: str) -> None:
        self._notes.append(text)

    def markdown(self) -> str:
        lines = [
            "| what | " + " | ".join(self._columns) + " |",
            "|---|" + "---:|" * len(self._columns),
        ]
        for row, values in self._rows.items():
            cells = [self._cell(row, values, column) for column in self._columns]
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
        names, place = versions(), machine()
        libraries = ", ".join(f"{name} {names[name]}" for name in ("stepwell", "python", "sqlite"))
        lines += ["", f"{'; '.join(self._notes)}; {libraries}."]
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
        better = value / anchor if row in self._more else anchor / value
        return f"{text} ({better:,.3g} x)"
