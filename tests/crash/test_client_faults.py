"""The table of faults in bounded form: each fault, what was logged, what arrived, how long it took.

The whole table is printed by ``python -m benchmarks.sdk_faults``.
"""

import pytest

from benchmarks import sdk_faults
from benchmarks.sdk_faults import ENDS, PACE_S, Row

VANISHED = ("os._exit", "SIGKILL", "exec")
LONGEST_MS = 250.0
"""A call that waited for a network would take a second and more; a busy machine takes this."""


def check(row: Row, lost: int = 0) -> None:
    assert row.logged - lost <= row.arrived <= row.logged, row.text()
    assert row.longest_ms < LONGEST_MS, row.text()


@pytest.mark.parametrize("group", [sdk_faults.server_faults, sdk_faults.no_server])
def test_no_trouble_with_the_server_loses_a_point_or_holds_up_a_call(group):
    rows = list(group(150))
    assert len(rows) >= 4
    for row in rows:
        check(row)


def test_what_is_refused_is_one_point():
    rows = list(sdk_faults.refusals(150))
    assert len(rows) == 4
    for row in rows:
        assert row.arrived == row.logged - 1, row.text()
        assert row.note.startswith("1 set aside")
        assert row.longest_ms < LONGEST_MS, row.text()


def test_beyond_the_spools_bound_points_are_dropped_and_counted():
    [row] = sdk_faults.bounds(400)
    assert 0 < row.arrived < row.logged
    assert row.longest_ms < LONGEST_MS, row.text()


def test_a_file_that_is_not_what_it_was_costs_itself_only():
    rows = list(sdk_faults.artifacts(100))
    assert len(rows) == 2
    for row in rows:
        check(row)


def test_a_disk_that_refuses_costs_nothing_while_memory_lasts():
    rows = list(sdk_faults.disks(150))
    assert len(rows) == 2
    for row in rows:
        check(row)


def test_the_end_of_a_process_costs_half_a_second_at_most_and_a_clean_one_nothing():
    rows = {row.fault: row for row in sdk_faults.ends(800)}
    assert rows.keys() == ENDS.keys()
    for name, row in rows.items():
        # What sleeps for PACE_S logs at most this much in half a second.
        check(row, lost=int(3 * 0.5 / PACE_S) if name in VANISHED else 0)
    assert all(rows[name].note == "status running" for name in VANISHED)
