"""Half a minute of load with a client that misbehaves: all are answered, and memory stays where it was."""

from pathlib import Path

import pytest

from benchmarks.server_load import measure
from tests.vla.serve.nano_policy import write_nano_policy


@pytest.mark.slow
def test_a_server_under_load_does_not_grow(tmp_path: Path):
    load = measure(
        str(write_nano_policy(tmp_path / "nano")), clients=6, max_batch=6, seconds=30, device="cpu", rude=True
    )
    assert load.errors == 0
    assert load.requests > 100
    assert load.mean_batch > 1.5
    early, late = load.rss_growth
    assert late - early < 5, f"memory grew from {early:.1f} to {late:.1f} MiB"
