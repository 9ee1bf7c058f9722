"""What is told of the artefact a run leaves."""

import hashlib
from pathlib import Path

import pytest

from vla.train.export import weights_digest


def test_the_digest_is_the_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert weights_digest(tmp_path) == hashlib.sha256(b"weights").hexdigest()
    (tmp_path / "more.safetensors").write_bytes(b"more")
    assert weights_digest(tmp_path) not in (hashlib.sha256(b"weights").hexdigest(), hashlib.sha256(b"more").hexdigest())
    with pytest.raises(ValueError, match="holds no weights"):
        weights_digest(tmp_path / "nothing")
