"""The public PyTorch `sample_actions` of openpi, timed on order by `vla bench latency`."""

# pyright: reportMissingImports=false

import argparse
from collections.abc import Callable

import openpi_model
from peer_weights import PeerWeights
from sampling_loop import Inputs, Sample, serve


def build(weights: PeerWeights, options: argparse.Namespace) -> Callable[[Inputs], Sample]:
    """A function from a case's inputs to a sampling; compiled the way openpi compiles by default."""
    mode = "max-autotune" if options.compiled else None
    model = openpi_model.build(weights, options.dtype, options.device, mode)

    def bind(case: Inputs) -> Sample:
        seen = openpi_model.observation(case["images"], case["img_masks"], case["tokens"], case["masks"])
        return lambda: openpi_model.sample(model, seen, case["sample_noise"])

    return bind


if __name__ == "__main__":
    serve(build)
