"""Records what the published FAST code fits and encodes: `python fast_tokens_golden.py CODE.py`, once.

CODE.py is processing_action_tokenizer.py of physical-intelligence/fast, downloaded by you; it is run, and not kept.
"""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

TESTS = Path(__file__).parents[2] / "tests" / "vla" / "models" / "pi05"
FITTED, VOCAB_SIZE, ENCODED = 200, 512, 20


def imported(path: Path) -> ModuleType:
    """The module in a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Base:
    """What the code needs of transformers' ProcessorMixin, which asks for more in each release."""

    def __init__(self, bpe_tokenizer: object) -> None:
        self.bpe_tokenizer = bpe_tokenizer


def main(code: Path) -> None:
    """Fit and encode the chunks of test_fast_tokens.py; those of whose letters some get lost are left out."""
    chunks = imported(TESTS / "test_fast_tokens.py").smooth_chunks
    base = ModuleType("transformers.processing_utils")
    base.ProcessorMixin = Base  # pyright: ignore[reportAttributeAccessIssue]
    with mock.patch.dict(sys.modules, {base.__name__: base}):
        peer = imported(code).UniversalActionProcessor.fit(chunks(FITTED, seed=0), vocab_size=VOCAB_SIZE)
    encoded = {}
    for place, chunk in enumerate(chunks(ENCODED, seed=1)):
        tokens = peer(chunk)[0]
        if len(peer.bpe_tokenizer.decode(tokens)) == chunk.size:
            encoded[place] = tokens
    vocabulary = peer.bpe_tokenizer.get_vocab()
    golden = {
        "fitted": FITTED,
        "vocab_size": VOCAB_SIZE,
        "min_token": peer.min_token,
        "tokens": encoded,
        "vocabulary": dict(sorted(vocabulary.items(), key=lambda item: item[1])),
    }
    (TESTS / "golden" / "fast.json").write_text(json.dumps(golden, indent=None))
    print(f"{len(encoded)} of {ENCODED} chunks kept all of their letters")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
