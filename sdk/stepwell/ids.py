"""Run ids that name their tenant: UUIDs of version 8 (RFC 9562, section 5.8).

Layout of the 128 bits, most significant first, with ``h`` the first four bytes of SHA-256 of the
lower-cased tenant name as an integer::

    48 bits  Unix time, ms
     4 bits  1000            version 8
    12 bits  h >> 20
     2 bits  10              variant
    20 bits  h & 0xFFFFF
    42 bits  random

A client can make such an id with no server at all, and a server can find the tenant of a
run-scoped call that carries no header.  Two tenants may share ``h``; the server tries each.
"""

import os
import re
import time
from functools import lru_cache

_PLAIN = re.compile(r"[0-9a-f]{32}")
_DASHED = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_RANDOM_BITS = 42


@lru_cache(4096)
def tenant_hash(tenant: str) -> int:
    """The 32 bits of a tenant's name that its run ids carry."""
    import hashlib  # OpenSSL with it: not for an `import stepwell`

    return int.from_bytes(hashlib.sha256(tenant.lower().encode()).digest()[:4])


def new_run_id(tenant: str, unix_ms: int | None = None, random: int | None = None) -> str:
    """A fresh run id: 32 lower-case hex digits.  ``random`` is below 2**42."""
    h = tenant_hash(tenant)
    now = time.time_ns() // 1_000_000 if unix_ms is None else unix_ms
    noise = int.from_bytes(os.urandom(6)) >> 48 - _RANDOM_BITS if random is None else random
    high = (now & 0xFFFF_FFFF_FFFF) << 16 | 0x8 << 12 | h >> 20
    low = 0b10 << 62 | (h & 0xFFFFF) << _RANDOM_BITS | noise
    return f"{high << 64 | low:032x}"


def hash_of_run_id(run_id: str) -> int | None:
    """The tenant's 32 bits inside a run id, or None where the id is of another form."""
    number = int(run_id, 16)
    if number >> 76 & 0xF != 0x8 or number >> 62 & 0b11 != 0b10:
        return None
    return (number >> 64 & 0xFFF) << 20 | number >> _RANDOM_BITS & 0xFFFFF


def parse_run_id(text: str) -> str | None:
    """The 32 lower-case hex digits of a run id in its plain or dashed form, else None."""
    if _PLAIN.fullmatch(text):
        return text
    lowered = text.lower()
    if _PLAIN.fullmatch(lowered):
        return lowered
    if _DASHED.fullmatch(lowered):
        return lowered.replace("-", "")
    return None
