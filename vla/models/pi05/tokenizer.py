"""Text to token ids: PaliGemma's tokenizer if the user has its file, or a small one trained from the texts."""

import logging
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Protocol

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as BackendTokenizer

from data_mixtures.storage.whole_file import write_whole
from vla.models.pi05.prompt import NUM_STATE_BINS, action_prompt, subtask_prompt

# Gemma's ids, kept by the small tokenizer too.
SPECIAL_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>")
PAD, EOS, BOS = 0, 1, 2

_JSON, _SENTENCEPIECE = "tokenizer.json", "tokenizer.model"
_MOST_KEPT = 100_000  # strings whose ids are kept: a server reads instructions without end
_log = logging.getLogger(__name__)
_STATE_NUMBERS = [str(value) for value in range(-1, NUM_STATE_BINS)]


class _Backend(Protocol):
    """What a tokenizer must do; sentencepiece and tokenizers both can."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: list[int]) -> str: ...

    def size(self) -> int: ...


class _Json:
    """A `tokenizer.json`, through the tokenizers library."""

    def __init__(self, text: str) -> None:
        self.tokenizer = BackendTokenizer.from_str(text)
        # An instruction that says "<eos>" is text, as it is for sentencepiece and openpi; LeRobot would end there.
        self.tokenizer.encode_special_tokens = True

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def size(self) -> int:
        # PaliGemma's tokenizer.json has `<image>` behind its 257,152 tokens: an id that no text becomes.
        special = {id_ for id_, token in self.tokenizer.get_added_tokens_decoder().items() if token.special}
        return 1 + max(id_ for id_ in self.tokenizer.get_vocab().values() if id_ not in special)


class _SentencePiece:
    """A `tokenizer.model`, as PaliGemma publishes it."""

    def __init__(self, model: bytes) -> None:
        from sentencepiece import SentencePieceProcessor

        self.tokenizer = SentencePieceProcessor(model_proto=model)  # pyright: ignore[reportCallIssue]

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.EncodeAsIds(text)

    def decode(self, ids: list[int]) -> str:
        known = self.size()  # a model with a larger vocabulary can say ids beyond, which are an error to sentencepiece
        return self.tokenizer.DecodeIds([i for i in ids if i < known and i not in (PAD, EOS, BOS)])

    def size(self) -> int:
        return self.tokenizer.GetPieceSize()


class PromptTokenizer:
    """Encodes prompts and sub-tasks; keeps the ids of each distinct string.

    Prompts with a state are nearly all distinct and are not worth keeping: pass `keep=False` for them.
    """

    def __init__(self, file_name: str, content: bytes) -> None:
        self._file_name, self._content = file_name, content
        self._backend: _Backend = _Json(content.decode()) if file_name == _JSON else _SentencePiece(content)
        self._known: dict[str, list[int]] = {}
        self._said_long = False

    @cached_property
    def vocab_size(self) -> int:
        """Number of token ids that a text can become: the rows its model's embedding must have."""
        return self._backend.size()

    def encode(self, text: str, keep: bool = True) -> list[int]:
        """Token ids of a text, without BOS and EOS."""
        ids = self._known.get(text)
        if ids is None:
            ids = self._backend.encode(text)
            if keep and len(self._known) < _MOST_KEPT:
                self._known[text] = ids
        return list(ids)

    def with_bos(self, ids: list[int], limit: int) -> list[int]:
        """BOS and a prompt's ids, at most `limit` in all: the end is cut off, as by openpi and LeRobot.

        The end is where the state's last numbers and `Action: ` are, so the first prompt that is cut is logged.
        """
        row = [BOS, *ids]
        if len(row) > limit and not self._said_long:
            self._said_long = True
            _log.warning(
                "a prompt has %d tokens, and only the first %d are read: shorten it, or raise model.max_text_tokens",
                len(row),
                limit,
            )
        return row[:limit]

    def decode(self, ids: list[int]) -> str:
        """The text of token ids, special tokens left out."""
        return self._backend.decode(ids)

    def save(self, folder: Path) -> None:
        """Write the tokenizer's own file into a model folder."""
        write_whole(folder / self._file_name, self._content)

    @classmethod
    def load(cls, path: Path) -> "PromptTokenizer":
        """Read a tokenizer.json or tokenizer.model: the file, or the folder it lies in, itself or under `tokenizer`."""
        places = (path, path / "tokenizer") if path.is_dir() else ()
        candidates = [place / name for place in places for name in (_JSON, _SENTENCEPIECE)] or [path]
        for candidate in candidates:
            if candidate.is_file():
                return cls._read(candidate)
        raise ValueError(
            f"tokenizer: found neither {_JSON} nor {_SENTENCEPIECE} at {path}; "
            "give PaliGemma's tokenizer.model, or leave the field out to train a small one from the data's texts"
        )

    @classmethod
    def _read(cls, file: Path) -> "PromptTokenizer":
        try:
            made = cls(_SENTENCEPIECE if file.suffix == ".model" else _JSON, file.read_bytes())
            _ = made.vocab_size  # a vocabulary that is empty shows here
        except Exception as error:  # what the two libraries raise has no narrower class
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ValueError(f"tokenizer: {file} is damaged or no tokenizer ({reason}); fetch it again") from error
        return made

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "PromptTokenizer":
        """Train a small byte-fallback BPE on instructions and sub-tasks; all state bins become single tokens.

        Args:
            texts: Instructions and sub-tasks; duplicates do no harm.
            vocab_size: Upper bound on the number of tokens; a few hundred are needed beside the 257 state numbers.
        """
        unique = sorted(set(texts))
        corpus = [part for text in unique for part in (action_prompt(text, []), subtask_prompt(text), text)]
        # Repeated until every number outweighs every word, so that its merges come first.
        numbers = [f" {number}" for number in _STATE_NUMBERS] * (len(corpus) + 10)
        backend = BackendTokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
        backend.normalizer = normalizers.Replace(" ", "▁")
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(r"[,;:.\n]"), "isolated"),
                pre_tokenizers.Split("▁", "merged_with_next"),
            ]
        )
        backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[*SPECIAL_TOKENS, *(f"<0x{byte:02X}>" for byte in range(256))],
            show_progress=False,
        )
        backend.train_from_iterator([*numbers, *corpus], trainer)
        tokenizer = cls(_JSON, _without_byte_specials(backend).encode())
        tokenizer._require_state_numbers(vocab_size)
        return tokenizer

    def _require_state_numbers(self, vocab_size: int) -> None:
        split = [number for number in _STATE_NUMBERS if len(self.encode(f" {number}", keep=False)) != 1]
        if split or self.vocab_size > vocab_size:
            raise ValueError(
                f"model.vocab_size {vocab_size} is too small for the 260 special and byte tokens, 257 state numbers "
                "and the texts' letters: give at least 1024"
            )


def _without_byte_specials(backend: BackendTokenizer) -> str:
    """The tokenizer as JSON, with the byte tokens in the vocabulary only: as added tokens they would match text."""
    import json

    raw = json.loads(backend.to_str())
    raw["added_tokens"] = [token for token in raw["added_tokens"] if token["content"] in SPECIAL_TOKENS]
    return json.dumps(raw, ensure_ascii=False)
