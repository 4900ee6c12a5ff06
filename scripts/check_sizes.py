"""Fail on any source file of more than 600 lines: the cheapest architecture test there is."""

import os
import sys
from pathlib import Path

LIMIT = 600
SUFFIXES = {".py", ".sql", ".ts", ".js", ".css", ".html", ".c", ".sh", ".md", ".toml", ""}
SKIPPED = {"node_modules", "static", "__pycache__", "golden", "stepwell-data", "build", "dist"}


def sources(root: Path) -> list[Path]:
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in SKIPPED and name[0] != "."]
        found += [Path(folder, name) for name in names if Path(name).suffix in SUFFIXES]
    return found


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def main() -> int:
    root = Path(__file__).parents[1]
    sizes = {path: lines(path) for path in sources(root)}
    long = {path: size for path, size in sizes.items() if size > LIMIT}
    for path, size in sorted(long.items()):
        print(
            f"{path.relative_to(root)}: {size} lines, more than {LIMIT}: split it", file=sys.stderr
        )
    if not long:
        print(f"{len(sizes)} files, none over {LIMIT} lines")
    return 1 if long else 0


if __name__ == "__main__":
    sys.exit(main())
