"""CLAM's joint grounding (section 3.1): an action decoder p(a|z) whose error shapes the latents it reads.

It reads the motion tokens and nothing else, all of them at once. The paper's decoder sees a latent and no frame, or it
could tell the action from the picture and leave the latent empty; scene tokens stay out because they are where the
rest of the change belongs. A motion token has no step of its own (Nm tokens, S steps), hence the whole table.
"""

from jaxtyping import Float
from torch import Tensor, nn

from data_mixtures.spaces.unified import ACTION_DIM
from lam.clam.networks.mlp import LEAK, Mlp
from lam.latbot.config import LatBotConfig


class MotionDecoder(nn.Module):
    """An embedding of the motion tokens, then an MLP to the window's actions (CLAM, table 11).

    Unlike CLAM's own decoder it ends without tanh: quantile normalisation leaves 2 % of the actions outside [-1, 1]
    and an open or closed gripper at exactly one end.
    """

    def __init__(self, config: LatBotConfig) -> None:
        super().__init__()
        assert config.grounding is not None, "without model.grounding there is no action decoder"
        sizes = config.grounding.decoder
        self.joint, self.horizon = config.grounding.joint, config.horizon
        self.embedding = nn.Linear(config.motion_tokens * config.latent_dim, sizes.embedding_dim)
        self.network = Mlp([sizes.embedding_dim, *sizes.hidden_dims, config.horizon * ACTION_DIM])

    def forward(self, motion: Float[Tensor, "b m d"]) -> Float[Tensor, "b s a"]:
        """Motion tokens [B, Nm, D] -> normalised unified actions [B, S, 44], float32."""
        z = motion if self.joint else motion.detach()
        embedded = self.embedding(z.flatten(1).to(self.embedding.weight.dtype))
        actions = self.network(nn.functional.leaky_relu(embedded, LEAK))
        return actions.unflatten(1, (self.horizon, ACTION_DIM)).float()
