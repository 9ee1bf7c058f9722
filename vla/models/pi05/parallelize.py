"""Placement: which parts of the student are sharded and recomputed as units."""

from torch import nn

from vla.models.pi05.model import Pi05


def blocks(module: nn.Module) -> list[nn.Module]:
    """The repeated layers in the order a forward pass runs them: vision tower, VLM, expert."""
    assert isinstance(module, Pi05)
    return [*module.vision.encoder.layers, *module.language.layers, *module.expert.layers]


def freeze(module: Pi05, *, expert: bool, last_vlm_layer: bool, vision: bool) -> None:
    """Turn off gradients of what an objective never reaches.

    Args:
        module: The student.
        expert: Freeze the action expert and its projections (stage 2).
        last_vlm_layer: Freeze what follows the keys and values of the VLM's last layer, and the final norm: where
            only the expert reads the prefix, none of it has a gradient (105 M parameters at the published size).
        vision: Freeze the vision tower.
    """
    frozen: list[nn.Module] = []
    if expert:
        frozen += [module.expert, module.action_in_proj, module.action_out_proj]
        frozen += [module.time_mlp_in, module.time_mlp_out]
    if last_vlm_layer:
        last = module.language.layers[-1]
        frozen += [module.language.norm, last.get_submodule("mlp"), last.get_submodule("post_attention_layernorm")]
        frozen += [last.get_submodule("self_attn.q_proj"), last.get_submodule("self_attn.o_proj")]
    if vision:
        frozen.append(module.vision)
    for part in frozen:
        part.requires_grad_(False)
