"""Our texts and images beside the peers' public code, run in their own interpreters; recorded in golden/peers.npz."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.vla.models.pi05.peer_cases import LIMIT, TASKS, case, states, train_gemma_like
from tests.vla.models.pi05.test_images import ours
from tests.vla.models.pi05.test_text_peers import rows_of, says_a_special
from vla.models.pi05.tokenizer import PAD, PromptTokenizer

SCRIPT = Path(__file__).parents[4] / "benchmarks" / "peers" / "text_and_images.py"
SHAPES = [(480, 640), (640, 480), (240, 424), (100, 100), (224, 224), (61, 113)]
SIZE = 224

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("peer", ["openpi", "lerobot"])
def test_the_peer_reads_the_same(peer: str, tmp_path: Path):
    variable = f"VLA_{peer.upper()}_PYTHON"
    if variable not in os.environ:
        pytest.skip(f"{variable} is not set: give it the Python of an environment with {peer} installed from source")
    train_gemma_like(tmp_path)
    np.savez(tmp_path / "in.npz", **case(SHAPES, SIZE))  # pyright: ignore[reportArgumentType]
    files = [str(tmp_path / name) for name in ("tokenizer.model", "in.npz", "out.npz")]
    done = subprocess.run(
        [os.environ[variable], str(SCRIPT), peer, *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made = np.load(tmp_path / "out.npz")

    tokens = rows_of(PromptTokenizer.load(tmp_path), TASKS, states(), LIMIT)
    for text, row, theirs, mask in zip(TASKS, tokens, made["tokens"], made["mask"], strict=True):
        if peer == "openpi" or not says_a_special(text):  # LeRobot's tokenizer ends a prompt at a typed "<eos>"
            assert row.tolist() == theirs.tolist()
            assert (row != PAD).tolist() == mask.tolist()
    for place in range(len(SHAPES)):
        np.testing.assert_allclose(ours(made[f"image_{place}"], SIZE), made[f"model_{place}"], atol=1e-6, rtol=0)
    if peer == "lerobot":
        assert np.unique(made["absent"]).tolist() == [-1]
