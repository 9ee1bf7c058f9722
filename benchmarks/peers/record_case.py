"""Record a case for `vla parity`: what a public implementation answers with any weights of pi0.5.

    PEER_PYTHON record_case.py {lerobot,openpi} --weights W.safetensors --case C.npz

Run it with the interpreter that imports that implementation (docs/parity.md). Inputs are drawn from --seed, or taken
from another case with --inputs. The weights' vision tower must have --vision-heads heads and its Gemmas heads of
--head-dim, which shapes do not tell; the defaults are the published ones. Everything runs in float32 on the CPU:
published weights take 14 GB, and as much again for gradients unless --without-gradients.
"""

import argparse
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from peer_weights import PeerWeights
from torch import Tensor

Inputs = dict[str, Tensor]


class Peer(Protocol):
    """What is asked of an implementation."""

    model: Any

    def losses(self, case: Inputs) -> Tensor:
        """Squared differences of the velocity [B, S, A]."""
        ...

    def sample(self, case: Inputs, num_steps: int) -> Tensor:
        """Actions [B, S, A]."""
        ...


class LeRobot:
    """LeRobot's model."""

    def __init__(self, weights: PeerWeights) -> None:
        import lerobot_model

        self.model = lerobot_model.build(weights)

    def losses(self, case: Inputs) -> Tensor:
        """Squared differences of the velocity [B, S, A]."""
        return self.model.forward(*seen(case), case["actions"], case["noise"], case["time"])

    def sample(self, case: Inputs, num_steps: int) -> Tensor:
        """Actions [B, S, A]."""
        return self.model.sample_actions(*seen(case), noise=case["sample_noise"], num_steps=num_steps)


class OpenPi:
    """The model of openpi."""

    def __init__(self, weights: PeerWeights) -> None:
        import openpi_model

        self.peer, self.model = openpi_model, openpi_model.build(weights)

    def losses(self, case: Inputs) -> Tensor:
        """Squared differences of the velocity [B, S, A]."""
        observed = self.peer.observation(*seen(case))
        return self.peer.losses(self.model, observed, case["actions"], case["noise"], case["time"])

    def sample(self, case: Inputs, num_steps: int) -> Tensor:
        """Actions [B, S, A]."""
        return self.peer.sample(self.model, self.peer.observation(*seen(case)), case["sample_noise"], num_steps)


def seen(case: Inputs) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor]:
    """Images and their masks a camera, tokens and their mask: as both implementations take them."""
    return list(case["images"]), list(case["img_masks"]), case["tokens"], case["masks"]


def draw(weights: PeerWeights, options: argparse.Namespace) -> Inputs:
    """Inputs in which every mask matters: texts of several lengths, and the last sample lacks the last camera."""
    config, generator = weights.config, torch.Generator().manual_seed(options.seed)
    batch, text, side = options.batch, options.text, config.vision.image_size
    chunk = (batch, config.horizon, config.action_dim)
    lengths = (text - torch.arange(batch)).clamp(min=1)
    masks = torch.arange(text) < lengths[:, None]
    img_masks = torch.ones(options.cameras, batch, dtype=torch.bool)
    img_masks[-1, -1] = options.cameras == 1
    return {
        "images": torch.rand(options.cameras, batch, 3, side, side, generator=generator) * 2 - 1,
        "img_masks": img_masks,
        "tokens": torch.randint(2, config.vocab_size, (batch, text), generator=generator) * masks,
        "masks": masks,
        "actions": torch.randn(*chunk, generator=generator),
        "noise": torch.randn(*chunk, generator=generator),
        "time": torch.rand(batch, generator=generator) * 0.999 + 0.001,
        "sample_noise": torch.randn(*chunk, generator=generator),
    }


INPUTS = ("images", "img_masks", "tokens", "masks", "actions", "noise", "time", "sample_noise")


def inputs_of(path: Path) -> Inputs:
    """Those of another case."""
    with np.load(path) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in INPUTS}


def answers(peer: Peer, case: Inputs, options: argparse.Namespace) -> dict[str, Any]:
    """Everything `vla parity` compares."""
    with torch.set_grad_enabled(not options.without_gradients):
        losses = peer.losses(case)
    found: dict[str, Any] = {"losses": losses, "loss": losses.mean()}
    if not options.without_gradients:
        losses.mean().backward()
        norms = {name: p.grad.norm().item() for name, p in peer.model.named_parameters() if p.grad is not None}
        found |= {"grad_names": np.array(list(norms)), "grad_norms": np.array(list(norms.values()))}
        peer.model.zero_grad(set_to_none=True)
    with torch.no_grad():
        embedded, valid, _ = peer.model.embed_prefix(*seen(case))
        found |= {"prefix_embs": embedded, "prefix_pad_masks": valid}
        found["sampled_actions"] = peer.sample(case, options.steps)
    return {name: value.detach().numpy() if isinstance(value, Tensor) else value for name, value in found.items()}


def main() -> None:
    """Record one case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", choices=["lerobot", "openpi"])
    parser.add_argument("--weights", type=Path, required=True, help="a .safetensors file, or the folder of one")
    parser.add_argument("--case", type=Path, required=True, help="the .npz file to write")
    parser.add_argument("--inputs", type=Path, help="take the inputs of this case")
    for name, default in (("horizon", 50), ("vision-heads", 16), ("head-dim", 256), ("steps", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("cameras", 3), ("batch", 2), ("text", 48), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default, help="of inputs that are drawn")
    parser.add_argument("--without-gradients", action="store_true")
    options = parser.parse_args()
    given = inputs_of(options.inputs) if options.inputs else None
    horizon = options.horizon if given is None else given["actions"].shape[1]
    weights = PeerWeights.open(options.weights, horizon, options.vision_heads, options.head_dim)
    case = draw(weights, options) if given is None else given
    peer: Peer = LeRobot(weights) if options.project == "lerobot" else OpenPi(weights)
    recorded = answers(peer, case, options)
    stated = {"vision_heads": options.vision_heads, "head_dim": options.head_dim, "num_steps": options.steps}
    arrays: dict[str, Any] = {**{name: value.numpy() for name, value in case.items()}, **recorded, **stated}
    np.savez_compressed(options.case, clock=options.project, **arrays)


if __name__ == "__main__":
    main()
