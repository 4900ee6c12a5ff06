"""Files of every released format decode to what they decoded to when they were written."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from stepwell_storage import codec, payloads
from stepwell_storage.points import Points

GOLDEN = Path(__file__).parents[1] / "golden"
SUMS: dict[str, str] = {}
for line in (GOLDEN / "SHA256SUMS").read_text().splitlines():
    checksum, listed = line.split("  ", 1)
    SUMS[listed] = checksum
CHUNKS = sorted(name for name in SUMS if name.endswith(".chunk"))
JOURNALS = sorted(name for name in SUMS if name.endswith(".journal"))


def arrays_of(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / name, allow_pickle=False) as stored:
        return dict(stored)


def bits(values: np.ndarray) -> bytes:
    return values.astype(np.float64, order="C").tobytes()


def test_the_files_of_version_1_are_all_listed():
    assert len([name for name in CHUNKS if name.startswith("v1_")]) >= 15
    assert len([name for name in JOURNALS if name.startswith("v1_")]) >= 7
    unlisted = {
        path.name
        for kind in ("chunk", "summary", "journal", "npz")
        for path in GOLDEN.glob(f"*.{kind}")
    } - set(SUMS)
    assert not unlisted


@pytest.mark.parametrize("name", sorted(SUMS))
def test_a_golden_file_is_never_rewritten(name: str):
    assert hashlib.sha256((GOLDEN / name).read_bytes()).hexdigest() == SUMS[name]


@pytest.mark.parametrize("name", CHUNKS)
def test_an_old_chunk_decodes_to_its_points(name: str):
    stored = arrays_of(name.replace(".chunk", ".npz"))
    points = codec.decode((GOLDEN / name).read_bytes())
    assert points == Points(stored["steps"], stored["timestamps"], stored["values"])
    assert len(points)


@pytest.mark.parametrize("name", CHUNKS)
def test_an_old_summary_decodes_to_its_blocks(name: str):
    stored = arrays_of(name.replace(".chunk", ".npz"))
    summary = codec.decode_summary((GOLDEN / name.replace(".chunk", ".summary")).read_bytes())
    assert summary.counts.tolist() == stored["block_counts"].tolist()
    assert summary.nonfinite.tolist() == stored["block_nonfinite"].tolist()
    assert summary.steps.tolist() == stored["block_steps"].tolist()
    assert summary.timestamps.tolist() == stored["block_timestamps"].tolist()
    assert bits(summary.values.ravel()) == bits(stored["block_values"].ravel())


@pytest.mark.parametrize("name", JOURNALS)
def test_an_old_journal_payload_decodes_to_its_columns(name: str):
    stored = arrays_of(name + ".npz")
    payload = payloads.decode((GOLDEN / name).read_bytes())
    assert payload.keys.tolist() == stored["keys"].tolist()
    assert payload.counts.tolist() == stored["counts"].tolist()
    assert payload.steps.tolist() == stored["steps"].tolist()
    assert payload.timestamps.tolist() == stored["timestamps"].tolist()
    assert bits(payload.values) == bits(stored["values"])


def test_the_golden_chunks_cover_every_encoding_and_form():
    heads = [(GOLDEN / name).read_bytes()[:4] for name in CHUNKS]
    seen = {(head[0], form) for head in heads for form in head[1:]}
    assert seen >= {(1, 1), (1, 16), (1, 64), (1, 65)}
    assert seen >= {(2, 0), (2, 1), (2, 2), (2, 16), (2, 17)}
