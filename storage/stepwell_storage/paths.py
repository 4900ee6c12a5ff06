"""Names of tenants and artifacts: what a caller may name, decided on the text alone, with no I/O.

A name is taken once-decoded, as the transport hands it over, and is stored so: the URL's
``100%25.png`` is the file ``100%.png``.  Because a proxy, a later client or an object store may
decode once more than we do, a name must stay harmless at every further level of percent-decoding.
"""

import re
from typing import Final
from urllib.parse import unquote

from stepwell_storage.errors import Invalid

MAX_PART_BYTES: Final = 255
MAX_PATH_BYTES: Final = 900
"""In UTF-8.  An object store's keys end at 1,024, and tenant and run stand in front."""
MAX_PARTS: Final = 100

TENANT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_RUN_ID: Final = re.compile(r"[0-9a-f]{32}")
_MODEL_ID: Final = re.compile(r"m-[0-9a-f]{32}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DRIVE: Final = re.compile(r"[A-Za-z]:")


def is_tenant_name(name: str) -> bool:
    """Whether a tenant may be called so, and its folder likewise."""
    return TENANT_NAME.fullmatch(name) is not None


def check_run_id(run_id: str) -> str:
    """The id itself; Invalid("run_id") unless it is 32 lower-case hex digits."""
    if not _RUN_ID.fullmatch(run_id):
        raise Invalid("run_id", "a run id has 32 lower-case hex digits")
    return run_id


def check_model_id(model_id: str) -> str:
    """The id itself; Invalid("model_id") unless it is ``m-`` and 32 lower-case hex digits."""
    if not _MODEL_ID.fullmatch(model_id):
        raise Invalid("model_id", "a model id is m- and 32 lower-case hex digits")
    return model_id


def split(path: str) -> tuple[str, ...]:
    """The parts of an artifact's name, all of them usable as file names as they are.

    Raises Invalid("path") for a name that is empty, too long, no UTF-8, or that could mean
    anything but a place below its root, at any level of percent-decoding.
    """
    if len(path) > MAX_PATH_BYTES or len(_utf8(path)) > MAX_PATH_BYTES:
        raise Invalid("path", f"a path has at most {MAX_PATH_BYTES} bytes in UTF-8")
    level, decoded = path, unquote(path)
    _refuse_escapes(level)
    while decoded != level:
        level, decoded = decoded, unquote(decoded)
        _refuse_escapes(level)
    parts = tuple(path.split("/"))
    if len(parts) > MAX_PARTS:
        raise Invalid("path", f"a path has at most {MAX_PARTS} parts")
    for part in parts:
        if part in ("", "."):
            raise Invalid("path", "a path has no empty parts and no part '.'")
        if len(_utf8(part)) > MAX_PART_BYTES:
            raise Invalid("path", f"a part of a path has at most {MAX_PART_BYTES} bytes in UTF-8")
    return parts


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Invalid("path", "a path is UTF-8") from None


def _refuse_escapes(level: str) -> None:
    if _CONTROL.search(level):
        raise Invalid("path", "a path holds no control characters, escaped or not")
    if "\\" in level:
        raise Invalid("path", "a path holds no backslashes, escaped or not")
    if level.startswith("/") or _DRIVE.match(level):
        raise Invalid("path", "a path is relative and names no drive, escaped or not")
    if ".." in level.split("/"):
        raise Invalid("path", "a path has no part '..', escaped or not")
