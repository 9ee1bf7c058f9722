"""The tensor that LeRobot and openpi insist on finding though nothing reads it: the action expert's output head.

Without it both report a file as incomplete. It is added as single bytes of zeros, which either casts when it loads:
263 MB at the published size and not a gigabyte, on most file systems a hole that takes no room.
"""

import json
import math
import shutil
import struct
from pathlib import Path
from typing import Any

NAME = "paligemma_with_expert.gemma_expert.lm_head.weight"
_COPIED_AT_ONCE = 64 << 20  # bytes: never a tensor's worth of memory


def add_dead_head(path: Path, vocab_size: int, width: int) -> None:
    """Rewrite a .safetensors file with the head [vocab_size, width] in it, whole or not at all; once is enough."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
        if NAME in header:
            return
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        size = math.prod((vocab_size, width))
        header[NAME] = {"dtype": "U8", "shape": [vocab_size, width], "data_offsets": [end, end + size]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        aside = path.with_name(f".{path.name}.partial")
        with aside.open("wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            shutil.copyfileobj(file, out, _COPIED_AT_ONCE)
            out.truncate(8 + len(text) + end + size)
    aside.replace(path)
