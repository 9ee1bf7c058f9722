"""Which parameters of the student learn, and an account of those that do not."""

import difflib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from vla.models.pi05.config import Pi05Config
from vla.models.pi05.model import Pi05
from vla.models.pi05.precision import published_dtype
from vla.train.initialise import replace_parameter
from vla.train.lora import DropoutRows, add_adapters, is_adapter, plain_name

Train = Literal["full", "frozen_vision", "frozen_vlm", "lora"]
_SUBLAYERS = {"self_attn": "attention", "mlp": "mlp"}
_PROJECTIONS = ("action_in_proj", "action_out_proj", "time_mlp_in", "time_mlp_out")


@dataclass(frozen=True)
class LoraTargets:
    """Low-rank adapters (`train: lora`): which linear layers get one, and what else learns.

    Attributes:
        rank: Of each update.
        alpha: An update is scaled by alpha / rank.
        dropout: Share of an adapter's input features that is zeroed in training, chosen anew for each sample.
        vlm: Of Gemma's layers: `attention`, `mlp`, or a linear layer's own name, such as `q_proj`.
        expert: Of the action expert's layers, likewise.
        vision: Of the vision tower's layers, likewise.
        whole: Beginnings of names of parameters that learn as in `train: full`; none may be of a layer with an adapter.
    """

    rank: int = 16
    alpha: float = 16.0
    dropout: float = 0.0
    vlm: tuple[str, ...] = ("attention", "mlp")
    expert: tuple[str, ...] = ("attention", "mlp")
    vision: tuple[str, ...] = ()
    whole: tuple[str, ...] = _PROJECTIONS

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"lora.rank is {self.rank}: give 1 or more")
        if self.alpha <= 0:
            raise ValueError(f"lora.alpha is {self.alpha}: give a positive number, such as the rank")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"lora.dropout is {self.dropout}: it lies in [0, 1)")


@dataclass(frozen=True)
class Frozen:
    """Names of parameters that do not learn: no gradient reaches `unreached`; `chosen` are kept by `train`."""

    unreached: tuple[str, ...]
    chosen: tuple[str, ...]


def freeze_expert(module: Pi05) -> None:
    """Leave gradients on all but the action expert and its projections: they wait for stage 3."""
    names = (*_PROJECTIONS, _path(module, module.expert))
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(not name.startswith(names))


def unreached(module: Pi05, text: bool) -> set[str]:
    """Names of the parameters no stage-3 loss has a gradient for.

    Where only the action expert reads the prefix, that is all behind the keys and values of the VLM's last layer:
    109,056,000 parameters at the published size (the published code leaves 104,861,696 of them without a gradient,
    and gives the other 4,194,304, the layer's queries, one of zeros). With `text` everything is read. The latent
    read-out's projection is stage 2's alone, and its queries too unless they stay in the prefix.
    """
    dead: list[nn.Module] = []
    if not text:
        last = module.language.layers[-1]
        dead += [module.language.norm, last.get_submodule("mlp"), last.get_submodule("post_attention_layernorm")]
        dead += [last.get_submodule("self_attn.q_proj"), last.get_submodule("self_attn.o_proj")]
    if module.latent_readout is not None:
        dead.append(module.latent_readout.proj if module.config.keep_latent_tokens else module.latent_readout)
    ids = {id(p) for part in dead for p in part.parameters()}
    return {name for name, p in module.named_parameters() if id(p) in ids}


def freeze(module: Pi05, train: Train, lora: LoraTargets, text: bool) -> tuple[Frozen, DropoutRows | None]:
    """Leave gradients on what `train` asks for and a loss reaches; with `lora`, put the adapters in.

    Args:
        module: The student, all of it trainable; it may be on meta.
        train: `full`; `frozen_vision`: all but the vision tower; `frozen_vlm`: the action expert and its projections;
            `lora`: adapters and `lora.whole`.
        lora: Where adapters go.
        text: Whether a loss reads what the VLM says.

    Returns:
        What is frozen, and, with `lora`, where the stage says what samples a forward pass is about.

    Raises:
        ValueError: A target of `lora` that there is not, or a layer that it names twice, to adapt and to learn whole.
    """
    dead = unreached(module, text)
    rows = None
    kept = set(_kept(module, train, lora))
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in dead and name not in kept)
    if train == "lora":
        linear = [name for name in _targets(module, lora) if f"{name}.weight" not in dead]
        rows = add_adapters(module, linear, lora.rank, lora.alpha, lora.dropout)
    frozen = [name for name, p in module.named_parameters() if not p.requires_grad]
    return Frozen(
        tuple(name for name in frozen if plain_name(name) in dead),
        tuple(name for name in frozen if plain_name(name) not in dead),
    ), rows


def check_targets(config: Pi05Config, lora: LoraTargets) -> None:
    """Raise ValueError for a target of `lora` that a student of these sizes does not have, or that it names twice."""
    with torch.device("meta"):
        module = Pi05(config)
    _targets(module, lora)
    list(_kept(module, "lora", lora))


def _kept(module: Pi05, train: Train, lora: LoraTargets) -> Iterator[str]:
    """Names of the parameters that `train` keeps as they start."""
    names = [name for name, _ in module.named_parameters()]
    if train == "frozen_vision":
        yield from _within(module, module.vision)
    elif train == "frozen_vlm":
        yield from (name for name in names if not name.startswith((*_PROJECTIONS, _path(module, module.expert))))
    elif train == "lora":
        for beginning in lora.whole:
            if not any(name.startswith(beginning) for name in names):
                raise ValueError(
                    f"lora.whole names {beginning!r}, but no parameter's name begins so.{_close(beginning, names)}"
                )
        yield from (name for name in names if not name.startswith(lora.whole or ("\0",)))


def _targets(module: Pi05, lora: LoraTargets) -> list[str]:
    """Full names of the linear layers that get an adapter; ValueError for a choice that means none."""
    parts = {"vlm": module.language, "expert": module.expert, "vision": module.vision.encoder}
    found: list[str] = []
    for part, stack in parts.items():
        path = _path(module, stack)
        linear = {f"{path}.{name}": name.split(".")[2:] for name, m in stack.named_modules() if _is_target(name, m)}
        known = {word for sublayer, own in linear.values() for word in (_SUBLAYERS[sublayer], own)}
        for word in getattr(lora, part):
            if word not in known:
                raise ValueError(
                    f"lora.{part} names {word!r}, which no layer there has.{_close(word, sorted(known))} "
                    f"There are {', '.join(sorted(known))}"
                )
        chosen = set(getattr(lora, part))
        adapted = [name for name, (sublayer, own) in linear.items() if chosen & {_SUBLAYERS[sublayer], own}]
        _require_not_whole(module, part, adapted, lora.whole)
        found += adapted
    if not found:
        raise ValueError("lora has no target: name some of `attention` and `mlp` in lora.vlm, lora.expert, lora.vision")
    return found


def _require_not_whole(module: Pi05, part: str, adapted: list[str], whole: tuple[str, ...]) -> None:
    """Raise ValueError for a layer that gets an adapter, beside which it is frozen, and is to learn whole as well."""
    for layer in adapted:
        names = [f"{layer}.{name}" for name, _ in module.get_submodule(layer).named_parameters()]
        for beginning in whole:
            if any(name.startswith(beginning) for name in names):
                raise ValueError(
                    f"lora.whole names {beginning!r}, but lora.{part} puts an adapter on {layer}, beside which the "
                    f"layer itself does not learn: drop it from lora.whole or from lora.{part}"
                )


def _is_target(name: str, module: nn.Module) -> bool:
    """Whether a stack's child is a linear layer of a sub-layer: `layers.3.mlp.up_proj`."""
    words = name.split(".")
    return isinstance(module, nn.Linear) and len(words) == 4 and words[2] in _SUBLAYERS


def _close(word: str, known: list[str]) -> str:
    found = difflib.get_close_matches(word, known, n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


def _path(module: nn.Module, part: nn.Module) -> str:
    return next(name for name, m in module.named_modules() if m is part)


def _within(module: nn.Module, part: nn.Module) -> Iterator[str]:
    path = _path(module, part)
    return (f"{path}.{name}" for name, _ in part.named_parameters())


def keep_frozen_in_bfloat16(module: nn.Module) -> None:
    """Hold frozen matrices in bfloat16, half the memory; what published bfloat16 files keep in float32 stays so.

    Under autocast this changes nothing but where the rounding happens: before the run, not in every product.
    """
    for name, parameter in list(module.named_parameters()):
        island = parameter.ndim < 2 or published_dtype(plain_name(name), "openpi") == torch.float32
        if not (parameter.requires_grad or island):
            half = nn.Parameter(parameter.detach().to(torch.bfloat16), requires_grad=False)
            replace_parameter(module, [name], half)


def log_frozen(module: nn.Module, frozen: Frozen, train: Train, logger: logging.Logger) -> None:
    """Say how many parameters learn, and name what does not, whole sub-modules in one word."""
    sizes = {name: p.numel() for name, p in module.named_parameters()}
    learning = sum(p.numel() for p in module.parameters() if p.requires_grad)
    plain = sum(size for name, size in sizes.items() if not is_adapter(name))
    adapters = sum(sizes.values()) - plain
    words = f", {adapters:,} of them in adapters beside the model's" if adapters else ""
    logger.info("train: %s: %s parameters learn%s; the model has %s", train, f"{learning:,}", words, f"{plain:,}")
    for names, why in ((frozen.unreached, "no loss reaches"), (frozen.chosen, f"`train: {train}` keeps")):
        if names:
            count = sum(sizes[name] for name in names)
            logger.info("%s %s parameters: %s", why, f"{count:,}", ", ".join(_abridged(module, set(names))))


def _abridged(module: nn.Module, names: set[str], path: str = "") -> Iterator[str]:
    """The fewest names that stand for these parameters: a sub-module's where all of its parameters are among them."""
    inside = {f"{path}{name}" for name, _ in module.named_parameters()}
    if inside and inside <= names:
        yield plain_name(path.removesuffix("."))
        return
    yield from (f"{path}{name}" for name, _ in module.named_parameters(recurse=False) if f"{path}{name}" in names)
    for name, child in module.named_children():
        yield from _abridged(child, names, f"{path}{name}.")
