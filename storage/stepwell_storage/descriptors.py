"""How many tenants may be open at once, as far as the process may open files."""

import resource

from stepwell_storage.sqlite import MAX_READERS

FILES_PER_TENANT = 4 + 2 * MAX_READERS
"""Database and WAL for each connection, one index of the WAL, and one artifact or so."""
OTHER_FILES = 512
"""Connections of clients, files that are sent, what Python itself holds."""
LEAST_TENANTS = 8


def affordable_tenants(wanted: int) -> int:
    """At most ``wanted``, and as many as fit into the limit of open files, which is raised to what
    they need as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = OTHER_FILES + FILES_PER_TENANT * wanted
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = allowed
    return max(LEAST_TENANTS, min(wanted, (soft - OTHER_FILES) // FILES_PER_TENANT))
