"""How a policy looks at pictures: through layers of its own, or through stage 1's inverse model (section 3.2)."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lam.clam.config import ImpalaConfig, LamConfig
from lam.clam.frames import Frames, pixels
from lam.clam.model import Sizes, inverse_model, shown
from lam.clam.networks.impala import ImpalaEncoder
from lam.clam.networks.impala_dynamics import ImpalaInverse
from lam.clam.networks.space_time import SpaceTimeInverse
from lam.clam.standard import Standard


class ImpalaEyes(nn.Module):
    """An IMPALA-CNN over the last few pictures, as channels of one; it is learned with the policy (section G.1).

    Attributes:
        feature_dim: Numbers it gives.
    """

    def __init__(self, config: ImpalaConfig, sizes: Sizes, frame_stack: int) -> None:
        super().__init__()
        self.encoder = ImpalaEncoder(frame_stack * 3 * sizes.cameras, config)
        self.feature_dim = config.feature_dim

    def forward(self, states: Float[Tensor, "B T 46"], images: Tensor) -> Float[Tensor, "B {self.feature_dim}"]:
        """Of pictures uint8 [B, T, cameras, 3, H, W], T the frame stack."""
        return F.relu(self.encoder(Frames(image=pixels(images))))


class InverseEyes(nn.Module):
    """The inverse model up to its features, which sees pictures as stage 1 showed them, in stage 1's units.

    Args:
        lam: Of stage 1, which looks at pictures.
        sizes: What the data decide.
        frame_stack: Pictures shown, the last one the present's. A convolution takes as many as it was trained on,
            H + 2; space-time attention any number up to H + 1, for the one after the present is not there.
        frozen: Nothing in it learns, and nothing in it is dropped.

    Attributes:
        feature_dim: Numbers it gives.
    """

    def __init__(self, lam: LamConfig, sizes: Sizes, frame_stack: int, frozen: bool) -> None:
        super().__init__()
        self.lam, self.frozen = lam, frozen
        self.standard = Standard(sizes.state_columns, sizes.action_columns, pictures=True)
        network = inverse_model(lam, sizes, lam.head_dim(len(sizes.action_columns)))
        least, most = (sizes.context + 2,) * 2 if lam.impala is not None else (1, sizes.context + 1)
        if not least <= frame_stack <= most:
            fix = f"give {most}" if least == most else f"give {least} to {most}, as `data.context` is {sizes.context}"
            raise ValueError(f"policy.frame_stack is {frame_stack}: {fix}")
        if isinstance(network, SpaceTimeInverse):
            self.feature_dim, head = network.feature_dim, network.la_head
        else:
            assert isinstance(network, ImpalaInverse), "the recipe's check lets no other through"
            self.feature_dim, head = network.encoder.feature_dim, network.head
        self.inverse = network.requires_grad_(not frozen)
        head.requires_grad_(False)  # features are read before it

    def train(self, mode: bool = True) -> "InverseEyes":
        """Frozen ones stay as they are evaluated."""
        return super().train(mode and not self.frozen)

    def forward(self, states: Float[Tensor, "B T 46"], images: Tensor) -> Float[Tensor, "B {self.feature_dim}"]:
        """Of T moments up to the present."""
        frames = shown(self.lam, self.standard, states, images)
        if isinstance(self.inverse, SpaceTimeInverse):
            return self.inverse.features(frames)
        assert isinstance(self.inverse, ImpalaInverse)
        return F.relu(self.inverse.encoder(frames))
