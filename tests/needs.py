"""Programs beside Python that some suites need: skip without them, but never in CI."""

import os
import shutil

import pytest


def program(*names: str, package: str) -> str:
    """The path of the first of these programs that is there.

    Where there is none the test (or module) is skipped with the reason, and fails when CI is set:
    a suite that silently runs nothing would be green for ever.
    """
    for name in names:
        if path := shutil.which(name):
            return path
    reason = f"{names[0]} is not installed; as root: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)
