"""LeRobot's public `sample_actions`, timed on order by `vla bench latency`."""

# pyright: reportMissingImports=false

import argparse
from collections.abc import Callable

import lerobot_model
from peer_weights import PeerWeights
from sampling_loop import Inputs, Sample, serve


def build(weights: PeerWeights, options: argparse.Namespace) -> Callable[[Inputs], Sample]:
    """A function from a case's inputs to a sampling."""
    model = lerobot_model.build(weights, options.dtype, options.device, compile_model=options.compiled)

    def bind(case: Inputs) -> Sample:
        return lambda: model.sample_actions(
            case["images"], case["img_masks"], case["tokens"], case["masks"], noise=case["sample_noise"]
        )

    return bind


if __name__ == "__main__":
    serve(build)
