"""What a peer makes of texts and images: `PEER_PYTHON text_and_images.py {openpi,lerobot} TOKENIZER IN.npz OUT.npz`.

TOKENIZER is a sentencepiece file named tokenizer.model.
IN holds tasks [n] (text), states float32 [n, d] (normalised), limit, size, and any number of image_<i> uint8 [H, W, 3].
OUT repeats it and adds tokens int64 [n, limit] and mask bool [n, limit]; model_<i> float32 [3, size, size] in [-1, 1],
what the network reads; absent float32 [3, size, size], what it reads for a missing camera (LeRobot); and served_<i>
uint8 [3, size, size], what openpi's data pipeline and client make of the image before that.

tests/vla/models/pi05/golden/peers.npz is such an OUT of openpi's, made from what `case` there returns.
"""

# pyright: reportMissingImports=false

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch

Arrays = dict[str, np.ndarray]


def openpi_text(tokenizer: Path, tasks: list[str], states: np.ndarray, limit: int) -> Arrays:
    """Tokens and mask of openpi's PaligemmaTokenizer over another sentencepiece file."""
    import openpi.shared  # noqa: F401

    # What the module imports beside: another tokenizer's network and a downloader, with dependencies of their own.
    beside = ("openpi.models.utils", "openpi.models.utils.fsq_tokenizer", "openpi.shared.download")
    sys.modules |= {name: MagicMock() for name in beside}
    from openpi.models.tokenizer import PaligemmaTokenizer
    from sentencepiece import SentencePieceProcessor

    peer = PaligemmaTokenizer.__new__(PaligemmaTokenizer)  # its __init__ downloads PaliGemma's file
    peer._max_len = limit
    peer._tokenizer = SentencePieceProcessor(model_file=str(tokenizer))
    rows = [peer.tokenize(task, state) for task, state in zip(tasks, states, strict=True)]
    tokens, mask = (np.stack(part) for part in zip(*rows, strict=True))
    return {"tokens": tokens.astype(np.int64), "mask": mask.astype(bool)}


def lerobot_text(tokenizer: Path, tasks: list[str], states: np.ndarray, limit: int) -> Arrays:
    """Tokens and mask of LeRobot's two pi0.5 steps over another sentencepiece file, read as a Gemma tokenizer."""
    from lerobot.policies.pi05.processor_pi05 import Pi05PrepareStateTokenizerProcessorStep
    from lerobot.processor import TokenizerProcessorStep, TransitionKey
    from transformers import GemmaTokenizer

    gemma = GemmaTokenizer.from_pretrained(tokenizer.parent, add_bos_token=True)
    transition = {
        TransitionKey.OBSERVATION: {"observation.state": torch.from_numpy(states)},
        TransitionKey.COMPLEMENTARY_DATA: {"task": list(tasks)},
    }
    step = TokenizerProcessorStep(tokenizer=gemma, max_length=limit, padding_side="right", padding="max_length")
    seen = step(Pi05PrepareStateTokenizerProcessorStep()(transition))[TransitionKey.OBSERVATION]
    tokens, mask = seen["observation.language.tokens"], seen["observation.language.attention_mask"]
    return {"tokens": tokens.numpy(), "mask": mask.numpy()}


def openpi_images(images: list[np.ndarray], size: int) -> Arrays:
    """What its model reads of an unresized image, and what its data pipeline and client resize it to."""
    from openpi.shared.image_tools import resize_with_pad_torch
    from openpi_client.image_tools import resize_with_pad

    out: Arrays = {}
    for place, image in enumerate(images):
        floats = torch.from_numpy(image).float()[None] / 255.0 * 2.0 - 1.0
        out[f"model_{place}"] = (
            resize_with_pad_torch(floats, size, size).reshape(size, size, 3).permute(2, 0, 1).numpy()
        )
        out[f"served_{place}"] = resize_with_pad(image, size, size).transpose(2, 0, 1)
    return out


def lerobot_images(images: list[np.ndarray], size: int) -> Arrays:
    """What its policy reads of an image, and of a camera that is not there."""
    from lerobot.policies.pi05.modeling_pi05 import PI05Policy

    features = {"observation.images.there": None, "observation.images.missing": None}
    policy = SimpleNamespace(
        config=SimpleNamespace(image_features=features, image_resolution=(size, size)),
        parameters=lambda: iter([torch.zeros(1)]),
    )
    out: Arrays = {}
    for place, image in enumerate(images):
        batch = {"observation.images.there": torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255}
        (there, absent), (_, mask) = PI05Policy._preprocess_images(policy, batch)
        out[f"model_{place}"], out["absent"] = there[0].numpy(), absent[0].numpy()
        assert not mask.any(), "a missing camera is masked"
    return out


def main(peer: str, tokenizer: Path, source: Path, target: Path) -> None:
    """Read IN, let the peer work, write OUT."""
    given = dict(np.load(source))
    text, read = (openpi_text, openpi_images) if peer == "openpi" else (lerobot_text, lerobot_images)
    images = [given[name] for name in sorted(given) if name.startswith("image_")]
    made = text(tokenizer, given["tasks"].tolist(), given["states"], int(given["limit"]))
    out: dict[str, Any] = given | made | read(images, int(given["size"]))
    np.savez_compressed(target, **out)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
