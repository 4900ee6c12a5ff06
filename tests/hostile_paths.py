"""Names that attackers have sent to trackers' artifact routes, and their relatives.

``HOSTILE`` are once-decoded names, as storage is handed them.  Each aims at ``canary.txt``, which
the tests put one, two and more folders above the files' root, or at an absolute file.  Some are
merely odd and may be stored; none may ever leave the root.
"""

from __future__ import annotations

from itertools import product
from urllib.parse import quote

CANARY = "canary.txt"

_UPS = (
    "..", "%2e%2e", ".%2e", "%2e.", "%2E%2E", "%252e%252e", "%25252e%25252e", "..;", "..;a=b",
    "..#", "..?", "..%00", "..\x00", ".. ", "..%20", "...", "....", "..%c0%af", "%c0%ae%c0%ae",
    "%e0%80%ae%e0%80%ae", "%uff0e%uff0e", "\uff0e\uff0e", "\u2024\u2024", "..\u200b",
)  # fmt: skip
_SLASHES = (
    "/", "%2f", "%2F", "%252f", "%25252f", "\\", "%5c", "%255c", "//", "/./", "\u2215", "\u2044",
    "\uff0f", "%c0%af", "%e0%80%af", ";/", "/\x00/", "\t/",
)  # fmt: skip
_PREFIXES = ("", "a/", "a/b/", "./", "/", "#/", "?", ";", "%00/")

CLIMBING = [
    prefix + slash.join([up] * depth + [CANARY])
    for prefix, up, slash, depth in product(_PREFIXES, _UPS, _SLASHES, (1, 3))
]

ABSOLUTE = [
    "/etc/passwd", "//etc/passwd", "///etc/passwd", "%2fetc%2fpasswd", "%252fetc%252fpasswd",
    "file:///etc/passwd", "file:/etc/passwd", "file:%2f%2f/etc/passwd", "FILE:///etc/passwd",
    "C:/Windows/win.ini", "c:\\Windows\\win.ini", "C%3A/Windows", "c:", "c:canary.txt",
    "\\\\server\\share\\x", "//server/share/x", "\\\\?\\C:\\x", "\\\\.\\PhysicalDrive0",
    "/proc/self/environ", "/proc/self/root/etc/passwd", "/dev/stdin", "~/.ssh/id_rsa", "~root/x",
    "mlflow-artifacts:/../../canary.txt", "http://169.254.169.254/latest", "s3://bucket/key",
    "?file=/etc/passwd", "#/../../canary.txt", "a#/../../canary.txt", "a?/../../canary.txt",
]  # fmt: skip

MISFORMED = [
    "", ".", "..", "/", "//", "./", "../", "a/", "/a", "a//b", "a/./b", "a/../b", "a/b/..", "a/.",
    "\x00", "a\x00b", "a\nb", "a\rb", "a\x1bb", "a\x7fb", "a\x85b", "a%00b", "a%0d%0ab", "%00",
    "a%2500b", "\ud800", "a/\udfff/b", "a" * 256, "\u00e4" * 128, "a/" + "b" * 300,
    "/".join(["a" * 200] * 5), "/".join("a" * 101), "x" * 100_000,
    "%25" * 300 + "2e%2e/x", "a\\b", "a%5cb", "\\",
]  # fmt: skip

HOSTILE = [*CLIMBING, *ABSOLUTE, *MISFORMED]
SELECTION = [*CLIMBING[::13], *ABSOLUTE, *MISFORMED]
"""For tests in which each name costs several requests; 13 divides no length of the products."""


def request_targets(name: str) -> list[bytes]:
    """Ways to put a name into a request line: as it is where that is possible, and encoded."""
    targets = {quote(name, safe="", errors="replace").encode()}
    targets.add(quote(name, safe="/;#?%\\:", errors="replace").encode())
    if name.isascii() and name.isprintable() and " " not in name:
        targets.add(name.encode())
    return sorted(targets)
