"""For every suite: an environment without anyone's settings, and what it ran on."""

import os
import signal
import sqlite3

import pytest

# A shell lets what it runs in the background ignore Ctrl-C, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

for name in [name for name in os.environ if name.startswith(("STEPWELL_", "MLFLOW_"))]:
    if name != "STEPWELL_TEST_SEED":  # which is a setting of the tests themselves
        del os.environ[name]


def pytest_report_header(config: pytest.Config) -> str:
    return f"SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores"
