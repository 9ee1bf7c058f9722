"""A module's parameters, part by part, without knowing the module: a part holds one stack of blocks, or none."""

from dataclasses import dataclass

from torch import nn

_SMALL = 0.01  # of all parameters: parts below it are shown together


@dataclass(frozen=True)
class Part:
    """Parameters counted once where they are tied.

    name: the shortest end of its path that names it alone; total, trainable: numbers of parameters.
    """

    name: str
    total: int
    trainable: int


def parts(module: nn.Module, blocks: list[nn.Module]) -> list[Part]:
    """The module's parameters in the order it holds them; a last part sums up what is small.

    A submodule is one part where it holds the blocks of one list only; what holds several is looked into.
    """
    stacks = _stacks(module, blocks)
    paths: dict[str, str] = {name: _part_of(name, stacks) for name, _ in module.named_parameters()}
    short = _shortest(set(paths.values()))
    counts: dict[str, list[int]] = {}
    for name, parameter in module.named_parameters():
        count = counts.setdefault(short[paths[name]], [0, 0])
        count[0] += parameter.numel()
        count[1] += parameter.numel() * parameter.requires_grad
    found = [Part(name, *count) for name, count in counts.items()]
    return _with_small_ones_together(found)


def _stacks(module: nn.Module, blocks: list[nn.Module]) -> set[str]:
    """Paths of the lists that hold the blocks."""
    wanted = {id(block) for block in blocks}
    return {name.rpartition(".")[0] for name, child in module.named_modules() if id(child) in wanted}


def _part_of(name: str, stacks: set[str]) -> str:
    """The shortest path above a parameter that holds at most one stack, or the parameter's own."""
    pieces = name.split(".")
    for length in range(1, len(pieces)):
        path = ".".join(pieces[:length])
        if sum(f"{stack}.".startswith(f"{path}.") for stack in stacks) <= 1:
            return path
    return name


def _shortest(paths: set[str]) -> dict[str, str]:
    """Each path's shortest end that is no other path's."""
    names: dict[str, str] = {}
    for path in paths:
        pieces = path.split(".")
        ends = (".".join(pieces[-length:]) for length in range(1, len(pieces) + 1))
        names[path] = next(end for end in ends if sum(f".{other}".endswith(f".{end}") for other in paths) == 1)
    return names


def _with_small_ones_together(found: list[Part]) -> list[Part]:
    everything = sum(part.total for part in found)
    small = [part for part in found if part.total < _SMALL * everything]
    if len(small) < 2:
        return found
    rest = Part(", ".join(p.name for p in small), sum(p.total for p in small), sum(p.trainable for p in small))
    return [part for part in found if part not in small] + [rest]
