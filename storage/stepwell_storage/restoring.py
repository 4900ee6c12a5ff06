"""A tenant out of a backup, verified before it is put in its place."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from pathlib import Path

from stepwell_storage.backups import (
    Step,
    contents,
    ignore,
    put_in_place,
    settle_places,
    unpack,
)
from stepwell_storage.check import Findings, verify_tenant
from stepwell_storage.errors import Conflict, Corrupt, NotFound
from stepwell_storage.store import take_lock


async def restore(
    source: Path,
    names: list[str],
    data: Path,
    *,
    replace: bool = False,
    damaged: bool = False,
    step: Step = ignore,
) -> list[str]:
    """Put tenants of a backup (all without ``names``) into a data directory; their names.

    Each is copied, compared with what was backed up, verified, and only then renamed to its place;
    ``damaged`` takes one, too, that was damaged before it was backed up.
    Raises NotFound, Conflict where a tenant stands and ``replace`` is false, Corrupt, and
    Unsupported where a server owns the directory.
    """
    known = contents(source)
    wanted = names or known
    for name in wanted:
        if name not in known:
            raise NotFound(f"{source} has no tenant {name}; it has {', '.join(known)}")
    tenants = data / "tenants"
    tenants.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = take_lock(data / "lock")
    try:
        settle_places(tenants)
        for name in wanted:
            if (tenants / name).exists() and not replace:
                raise Conflict(f"there is a tenant {name} in {data} already")
        for name in wanted:
            await _restore(source, name, tenants, replace=replace, damaged=damaged, step=step)
    finally:
        lock.close()
    return wanted


async def _restore(
    source: Path, name: str, tenants: Path, *, replace: bool, damaged: bool, step: Step
) -> None:
    scratch = tenants / f".{name}.{secrets.token_hex(4)}.partial"
    folder = scratch / name
    try:
        await asyncio.to_thread(unpack, source, name, folder, step)
        findings = Findings(lambda _: None, lambda _: None)
        await verify_tenant(folder, findings)
        if findings.problems and not damaged:
            raise Corrupt(
                f"the tenant was damaged when it was backed up: {findings.problems[0]}", file=source
            )
        await asyncio.to_thread(put_in_place, folder, tenants, name, replace=replace)
    finally:
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
