"""The peers' side of `vla bench latency`: orders on standard input, a line of JSON for each on standard output.

{"order": "case", "inputs": "c.npz", "outputs": "a.npy"}   sample once and write the actions
{"order": "run"}                                           sample again; the answer has its seconds
"""

# pyright: reportMissingImports=false

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peer_weights import PeerWeights

Inputs = dict[str, Any]
Sample = Callable[[], torch.Tensor]


def arguments() -> argparse.Namespace:
    """Of a runner: which weights, and what their shapes do not tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--horizon", type=int, required=True)
    parser.add_argument("--vision-heads", type=int, required=True)
    parser.add_argument("--head-dim", type=int, required=True)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compiled", action="store_true")
    return parser.parse_args()


def serve(build: Callable[[PeerWeights, argparse.Namespace], Callable[[Inputs], Sample]]) -> None:
    """Build the peer and carry out orders until the input ends.

    Args:
        build: Weights and options -> a function that binds a case's inputs (as `lists` makes them) to a sampling.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    options = arguments()
    torch.set_num_threads(options.threads)
    weights = PeerWeights.open(options.weights, options.horizon, options.vision_heads, options.head_dim)
    bind = build(weights, options)
    _answer(answers, ready=True)
    sample: Sample | None = None
    for line in sys.stdin:
        order = json.loads(line)
        if order["order"] == "case":
            sample = bind(lists(Path(order["inputs"]), options.device))
            with torch.no_grad():
                np.save(order["outputs"], sample().float().cpu().numpy())
            _answer(answers, done=True)
        else:
            assert sample is not None, "a run before any case"
            _answer(answers, seconds=timed(sample, options.device))


def lists(path: Path, device: str) -> Inputs:
    """A case's arrays as both peers take them: images and img_masks as lists, one entry a camera."""
    with np.load(path) as arrays:
        case: Inputs = {name: torch.from_numpy(arrays[name]).to(device) for name in arrays.files}
    return {**case, "images": list(case["images"]), "img_masks": list(case["img_masks"])}


@torch.no_grad()
def timed(sample: Sample, device: str) -> float:
    """Seconds of one sampling, the device's work included."""
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    sample()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _answer(stream: Any, **fields: Any) -> None:
    stream.write(json.dumps(fields) + "\n")
    stream.flush()
