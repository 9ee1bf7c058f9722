"""Does a file of weights compute here what it computed elsewhere? Recorded answers against ours, in float32."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vla.models.pi05.config import Pi05Config
from vla.models.pi05.convert import WeightFile, our_name
from vla.models.pi05.load import NameReport, load_published
from vla.models.pi05.model import NoisyActions, Pi05
from vla.models.pi05.precision import stored_precision
from vla.models.pi05.recorded import RecordedCase
from vla.models.pi05.sample import sample_actions
from vla.models.pi05.sizes import Heads, config_of, head_choices
from vla.nn.flow_matching import interpolate, velocity_target

LOSS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
ACTION_TOLERANCE = 1e-5
ANY_CLOCK_TOLERANCE = 2e-4  # openpi's float32 clock alone makes 6e-5
EMBEDDING_TOLERANCE = 1e-5
# A gradient norm below this share of the whole gradient's is rounding (a key's bias has no gradient at all).
GRADIENT_FLOOR = 1e-3


@dataclass(frozen=True)
class Difference:
    """The largest difference of one recorded quantity.

    Attributes:
        quantity: Its name.
        largest: The difference; `nan` where either side is not a number.
        tolerance: What it may be.
        measure: How it was measured.
        where: The element or parameter it lies at.
        compared: How many numbers were compared.
    """

    quantity: str
    largest: float
    tolerance: float
    measure: str
    where: str
    compared: int

    @property
    def within(self) -> bool:
        """Whether it is at most the tolerance; a difference that is not a number is not."""
        return self.largest <= self.tolerance


@dataclass(frozen=True)
class Parity:
    """A model, what became of the names of its file, and how its answers differ from the recorded ones."""

    config: Pi05Config
    parameters: int
    precision: str
    names: NameReport
    heads_tried: int
    differences: list[Difference]
    unread: tuple[str, ...]


def compare(weights_path: Path, case_path: Path) -> Parity:
    """Load the weights, run the case and compare.

    Raises:
        ValueError: The file is no π0.5, the case is incomplete, or the two do not fit; the message names the culprit.
    """
    weights, case = WeightFile(weights_path), RecordedCase.load(case_path)
    choices = head_choices(weights, case.number("vision_heads"), case.number("head_dim"))
    with torch.device("meta"):
        model = Pi05(_config(weights, case, choices[0]))
    names = load_published(model, weights)
    case.check(model.config, set(names.loaded))
    if len(choices) > 1:
        model = _with_fitting_heads(model, weights, case, choices)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Parity(
        config=model.config,
        parameters=parameters,
        precision=stored_precision(weights),
        names=names,
        heads_tried=len(choices),
        differences=differences(model, case),
        unread=case.unread,
    )


def differences(model: Pi05, case: RecordedCase) -> list[Difference]:
    """The largest difference of every quantity the case records."""
    found: list[Difference] = []
    for quantity in (prefix_difference, training_differences, action_difference):
        found += quantity(model, case)
    return found


@torch.no_grad()
def prefix_difference(model: Pi05, case: RecordedCase) -> list[Difference]:
    """Embeddings of the prefix's valid tokens, and which are valid."""
    if "prefix_pad_masks" not in case.tensors:
        return []
    embedded, valid = model.embed_prefix(case.prefix(), queries=False)
    recorded_valid = case.tensors["prefix_pad_masks"]
    differ = (valid != recorded_valid).float()
    found = [Difference("prefix mask", differ.sum().item(), 0, "tokens", _where(differ), valid.numel())]
    if "prefix_embs" in case.tensors:
        both = (valid & recorded_valid)[..., None]
        recorded = torch.where(both, case.tensors["prefix_embs"], 0)
        found.append(_scaled("prefix embeddings", torch.where(both, embedded, 0), recorded, EMBEDDING_TOLERANCE))
    return found


def training_differences(model: Pi05, case: RecordedCase, gradients: bool = True) -> list[Difference]:
    """Losses, their mean, and the norms of the mean's gradients."""
    t = case.tensors
    gradients = gradients and bool(case.grad_norms)
    if not gradients and not {"losses", "loss"} & t.keys():
        return []
    model.zero_grad(set_to_none=True)
    with torch.set_grad_enabled(gradients):
        x_t = interpolate(t["actions"], t["noise"], t["time"])
        velocity = model(case.prefix(), noisy=NoisyActions(x_t, t["time"]))["velocity"]
        losses = (velocity - velocity_target(t["actions"], t["noise"])).square()
        mean = losses.mean()
    found: list[Difference] = []
    if "losses" in t:
        found.append(_scaled("losses", losses.detach(), t["losses"], LOSS_TOLERANCE))
    if "loss" in t:
        found.append(_scaled("loss", mean.detach(), t["loss"], LOSS_TOLERANCE))
    if gradients:
        mean.backward()
        found.append(_gradient_difference(model, case))
        model.zero_grad(set_to_none=True)
    return found


@torch.no_grad()
def action_difference(model: Pi05, case: RecordedCase) -> list[Difference]:
    """Actions sampled from the recorded noise, at the times of the stated clock."""
    if "sampled_actions" not in case.tensors:
        return []
    noise, recorded = case.tensors["sample_noise"], case.tensors["sampled_actions"]
    times = openpi_times(model.config.num_steps) if case.clock == "openpi" else None
    actions = sample_actions(model, case.prefix(), noise, times)
    quantity = f"sampled actions{f' ({case.clock} clock)' if case.clock else ''}"
    return [_scaled(quantity, actions, recorded, ACTION_TOLERANCE if case.clock else ANY_CLOCK_TOLERANCE)]


def openpi_times(num_steps: int) -> Tensor:
    """The times [num_steps] of openpi's clock, which adds up float32 steps and their rounding."""
    step, times = torch.tensor(-1.0 / num_steps), [torch.tensor(1.0)]
    while len(times) < num_steps:
        times.append(times[-1] + step)
    return torch.stack(times)


def _gradient_difference(model: Pi05, case: RecordedCase) -> Difference:
    ours = {name: 0.0 if p.grad is None else p.grad.double().norm().item() for name, p in model.named_parameters()}
    names = list(case.grad_norms)
    recorded = torch.tensor([case.grad_norms[name] for name in names], dtype=torch.float64)
    computed = torch.tensor([ours.get(our_name(name) or "", 0.0) for name in names], dtype=torch.float64)
    floor = GRADIENT_FLOOR * recorded.square().sum().sqrt()
    apart = (computed - recorded).abs() / recorded.clamp(min=max(floor.item(), 1e-30))
    where = names[int(apart.argmax())]
    return Difference("gradient norms", apart.max().item(), GRADIENT_TOLERANCE, "relative", where, len(names))


def _scaled(quantity: str, ours: Tensor, recorded: Tensor, tolerance: float) -> Difference:
    """Absolute up to 1 and relative above, because float32 is."""
    apart = (ours - recorded).abs() / recorded.abs().clamp(min=1)
    return Difference(quantity, apart.max().item(), tolerance, "relative above 1", _where(apart), apart.numel())


def _where(apart: Tensor) -> str:
    if not apart.dim():
        return "-"
    index = torch.unravel_index(apart.argmax(), apart.shape)
    return str([int(i) for i in index])


def _config(weights: WeightFile, case: RecordedCase, heads: Heads) -> Pi05Config:
    return config_of(weights, heads, case.sizes["R"], case.horizon, case.number("num_steps") or 10)


def _with_fitting_heads(model: Pi05, weights: WeightFile, case: RecordedCase, choices: list[Heads]) -> Pi05:
    """The model with the heads whose answers come closest to the recorded ones.

    Heads are whole numbers: one choice fits and the others are far off. The vision tower's are told by the prefix's
    embeddings where they are recorded, without a run of the rest.
    """

    def with_heads(heads: Heads) -> Pi05:
        with torch.device("meta"):
            other = Pi05(_config(weights, case, heads))
        other.load_state_dict(model.state_dict(), assign=True)
        return other

    if "prefix_embs" in case.tensors:
        towers = {heads.vision: heads for heads in reversed(choices)}
        tower = _closest(towers.values(), lambda heads: prefix_difference(with_heads(heads), case)).vision
        choices = [heads for heads in choices if heads.vision == tower]

    def answers(heads: Heads) -> list[Difference]:
        candidate = with_heads(heads)
        return training_differences(candidate, case, gradients=False) + action_difference(candidate, case)

    return with_heads(_closest(choices, answers))


def _closest(choices: Iterable[Heads], answers: Callable[[Heads], list[Difference]]) -> Heads:
    """The choice whose answers differ least, the first among equals.

    The first within tolerance will not do: a loss alone is one number, which wrong heads can meet by chance.
    """

    def farthest(heads: Heads) -> float:
        shares = [d.largest / d.tolerance for d in answers(heads) if d.tolerance]
        return max((math.inf if math.isnan(share) else share for share in shares), default=0.0)

    return min(choices, key=farthest)
