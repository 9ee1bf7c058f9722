"""FAST action tokens: a chunk's cosine transform, rounded, written as letters and compressed by byte pairs.

The algorithm and the files are those of the tokenizer published as physical-intelligence/fast
("FAST: Efficient Action Tokenization for Vision-Language-Action Models", arXiv 2501.09747), with no code from it run.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.fft import dct, idct
from tokenizers import Tokenizer as BackendTokenizer
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from data_mixtures.storage.whole_file import write_whole
from vla.models.pi05.tokenizer import EOS, SPECIAL_TOKENS, PromptTokenizer

# PaliGemma's last 128 ids are its segmentation tokens; action tokens lie below them, the first one highest.
SKIPPED_IDS = 128
END_OF_ACTIONS = "|"

_CONFIG, _TOKENIZER, _TOKENIZER_CONFIG = "processor_config.json", "tokenizer.json", "tokenizer_config.json"
_SUBFOLDER = "bpe_tokenizer"  # where transformers 5 saves a processor's tokenizer of that name
_PUBLISHED_CODE = "physical-intelligence/fast--processing_action_tokenizer.UniversalActionProcessor"
_LAST_LETTER = 0x7FF  # the last that is two bytes long; a fitted range ends far below
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FastTokens:
    """Action chunks [S, A], normalised, to token ids of the VLM's vocabulary and back.

    Attributes:
        tokenizer: Byte-level BPE over letters; letter n stands for the coefficient `min_token + n`.
        vlm_vocab_size: The VLM's vocabulary; token n becomes id `vlm_vocab_size - 1 - 128 - n`, as openpi maps it.
        min_token: The least coefficient seen in fitting, times `scale`, rounded.
        scale: Steps a unit of a coefficient; actions come back within 0.5 / scale in root mean square.
        vocab_size: Tokens asked for in fitting; there can be fewer, and bytes that no chunk needed come on top.
        horizon: S of the chunks it was fitted to, None if they differ or it is not known.
        action_dim: A, likewise.
    """

    tokenizer: BackendTokenizer
    vlm_vocab_size: int
    min_token: int
    scale: float = 10.0
    vocab_size: int = 1024
    horizon: int | None = None
    action_dim: int | None = None
    _writable: dict[int, int] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        lowest = self.vlm_vocab_size - SKIPPED_IDS - self.tokenizer.get_vocab_size()
        if lowest < len(SPECIAL_TOKENS):
            raise ValueError(
                f"model.vocab_size {self.vlm_vocab_size} has no room for {self.tokenizer.get_vocab_size()} action "
                f"tokens below its last {SKIPPED_IDS}: raise it by {len(SPECIAL_TOKENS) - lowest}, or fit fewer tokens"
            )

    @property
    def num_tokens(self) -> int:
        """Number of action tokens there are."""
        return self.tokenizer.get_vocab_size()

    def encode(self, chunk: np.ndarray) -> list[int]:
        """Ids in the VLM's vocabulary of one chunk [S, A], float, normalised; any S and A.

        A coefficient that cannot be written becomes the nearest that can: those below `min_token`, and letters whose
        bytes a published vocabulary lacks. (The published code loses the latter, and all behind them move up.)

        Raises:
            ValueError: The chunk is no matrix, or holds NaN or infinity.
        """
        values = np.asarray(chunk)
        if values.ndim != 2 or not np.isfinite(values).all():
            raise ValueError(f"chunk is {list(values.shape)}: give finite actions [steps, dimensions]")
        letters = (self._coefficients(values) - self.min_token).clip(0, _LAST_LETTER).tolist()
        text = "".join(chr(self._nearest_writable(letter)) for letter in letters)
        return [self._vlm_id(token) for token in self.tokenizer.encode(text, add_special_tokens=False).ids]

    def decode(self, ids: Sequence[int], horizon: int | None = None, action_dim: int | None = None) -> np.ndarray:
        """The chunk [S, A] float32 that ids of the VLM's vocabulary stand for; S and A default to the fitted ones.

        Raises:
            ValueError: An id is no action token, or the ids do not make S * A coefficients. (A model's own text can be
                so. The published code then gives zeros; LeRobot cuts or fills with zeros.)
        """
        horizon, action_dim = horizon or self.horizon, action_dim or self.action_dim
        if horizon is None or action_dim is None:
            raise ValueError("this tokenizer does not say how long and wide its chunks are: give horizon, action_dim")
        tokens = [self._vlm_id(i) for i in ids]  # the map is its own inverse
        strange = [i for i, token in zip(ids, tokens, strict=True) if not 0 <= token < self.num_tokens]
        if strange:
            raise ValueError(f"id {strange[0]} is no action token: they are {self.id_range[0]} to {self.id_range[1]}")
        text = self.tokenizer.decode(tokens, skip_special_tokens=False)
        if len(text) != horizon * action_dim or "\N{REPLACEMENT CHARACTER}" in text:
            raise ValueError(f"{len(ids)} action tokens make {len(text)} coefficients, not {horizon} * {action_dim}")
        coefficients = (np.array([ord(letter) for letter in text]) + self.min_token) / self.scale
        chunk = idct(coefficients.reshape(horizon, action_dim), axis=0, norm="ortho")
        return np.asarray(chunk, dtype=np.float32)

    @property
    def id_range(self) -> tuple[int, int]:
        """The lowest and the highest id of an action token in the VLM's vocabulary."""
        return self._vlm_id(self.num_tokens - 1), self._vlm_id(0)

    def continuation(self, chunk: np.ndarray, tokenizer: PromptTokenizer) -> list[int]:
        """What follows a prompt, whose last words are `Action: `: the chunk's tokens, `|` and EOS."""
        return [*self.encode(chunk), *tokenizer.encode(END_OF_ACTIONS), EOS]

    @classmethod
    def fit(
        cls, chunks: Iterable[np.ndarray], vlm_vocab_size: int, vocab_size: int = 1024, scale: float = 10.0
    ) -> "FastTokens":
        """A tokenizer for chunks like these, each [S, A], normalised: the published one, and the bytes it would lack.

        Raises:
            ValueError: The coefficients span more letters than `vocab_size`.
        """
        arrays = [np.asarray(chunk) for chunk in chunks]
        if not arrays or any(a.ndim != 2 or not np.isfinite(a).all() for a in arrays):
            raise ValueError("chunks: give at least one, each of finite actions [steps, dimensions]")
        rounded = [_rounded(dct(array, axis=0, norm="ortho"), scale) for array in arrays]
        low, high = min(int(r.min()) for r in rounded), max(int(r.max()) for r in rounded)
        if high - low > vocab_size:
            raise ValueError(
                f"vocab_size is {vocab_size}, but the actions' coefficients span {low}..{high}: "
                "raise it, lower scale, or normalise the actions to about -1..1"
            )
        if high - low + 100 > vocab_size:
            _log.warning("FAST: %d letters leave few of %d tokens to merge into", high - low + 1, vocab_size)
        texts = ("".join(map(chr, (row - low).tolist())) for row in rounded)
        shapes = {array.shape for array in arrays}
        horizon, action_dim = next(iter(shapes)) if len(shapes) == 1 else (None, None)
        backend = _trained(texts, high - low + 1, vocab_size)
        return cls(backend, vlm_vocab_size, low, scale, vocab_size, horizon, action_dim)

    def save(self, folder: Path) -> None:
        """Write the published layout into an existing folder; peers' loaders fetch the code they want from the hub."""
        config = {
            "action_dim": self.action_dim,
            "auto_map": {"AutoProcessor": _PUBLISHED_CODE},
            "min_token": self.min_token,
            "processor_class": "UniversalActionProcessor",
            "scale": self.scale,
            "time_horizon": self.horizon,
            "vocab_size": self.vocab_size,
        }
        kind = {"clean_up_tokenization_spaces": False, "tokenizer_class": "PreTrainedTokenizerFast"}
        write_whole(folder / _CONFIG, json.dumps(config, indent=2))
        write_whole(folder / _TOKENIZER_CONFIG, json.dumps(kind, indent=2))
        write_whole(folder / _TOKENIZER, self.tokenizer.to_str())

    @classmethod
    def load(cls, folder: Path, vlm_vocab_size: int) -> "FastTokens":
        """Read a folder in the published layout, as `save` or transformers 4 or 5 wrote it; its code is never run."""
        found = [path for path in (folder / _TOKENIZER, folder / _SUBFOLDER / _TOKENIZER) if path.is_file()]
        if not found or not (folder / _CONFIG).is_file():
            raise ValueError(f"{folder} lacks {_TOKENIZER} or {_CONFIG}: give a downloaded physical-intelligence/fast")
        raw = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        return cls(
            BackendTokenizer.from_file(str(found[0])),
            vlm_vocab_size,
            raw["min_token"],
            raw["scale"],
            raw["vocab_size"],
            raw.get("time_horizon"),
            raw.get("action_dim"),
        )

    def _coefficients(self, chunk: np.ndarray) -> np.ndarray:
        # With a leading axis and in the chunk's own precision, as the published code has it: a last bit can round.
        return _rounded(dct(chunk[None], axis=1, norm="ortho"), self.scale)

    def _vlm_id(self, token: int) -> int:
        return self.vlm_vocab_size - 1 - SKIPPED_IDS - token

    def _nearest_writable(self, letter: int) -> int:
        if letter not in self._writable:
            by_distance = sorted(range(_LAST_LETTER + 1), key=lambda other: abs(other - letter))
            self._writable[letter] = next(other for other in by_distance if self._keeps(chr(other)))
        return self._writable[letter]

    def _keeps(self, letter: str) -> bool:
        ids = self.tokenizer.encode(letter, add_special_tokens=False).ids
        return self.tokenizer.decode(ids, skip_special_tokens=False) == letter


def _rounded(transform: object, scale: float) -> np.ndarray:
    """Coefficients in steps of 1 / scale, int64, flat: time outermost."""
    return np.around(np.asarray(transform) * scale).astype(np.int64).flatten()


def _trained(texts: Iterable[str], letters: int, vocab_size: int) -> BackendTokenizer:
    """Byte-level BPE of texts in the first `letters` letters, with the published settings."""
    backend = BackendTokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        show_progress=False,
        special_tokens=[],
        # Letters, where bytes would be meant: published so, and the ids depend on it.
        initial_alphabet=[chr(letter) for letter in range(letters)],
        max_token_length=10_000,
    )
    backend.train_from_iterator(texts, trainer)
    return _with_all_bytes(backend)


def _with_all_bytes(backend: BackendTokenizer) -> BackendTokenizer:
    """With the bytes that no text had at the vocabulary's end: the other ids stay, and every letter can be written."""
    raw = json.loads(backend.to_str())
    vocabulary = raw["model"]["vocab"]
    for byte in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary.setdefault(byte, len(vocabulary))
    return BackendTokenizer.from_str(json.dumps(raw))
