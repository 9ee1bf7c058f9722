"""SigLIP's vision tower in plain torch, with the published parameter names."""

from torch import Tensor, nn
from torch.nn import functional as F

from vla.models.pi05.config import VisionConfig
from vla.nn.attention import attend
from vla.nn.norms import compute_dtype
from vla.nn.recompute import recomputed


class PatchEmbeddings(nn.Module):
    """Patches and learned positions. The patch convolution runs as one matrix product: its stride is its kernel."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(3, config.width, config.patch_size, stride=config.patch_size)
        self.position_embedding = nn.Embedding(config.num_tokens, config.width)
        self.patch_size = config.patch_size

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [-1, 1] -> [B, patches in row order, width]."""
        p = self.patch_size
        patches = images.unfold(2, p, p).unfold(3, p, p).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        weight = self.patch_embedding.weight
        embedded = F.linear(patches.to(weight.dtype), weight.flatten(1), self.patch_embedding.bias)
        return embedded + self.position_embedding.weight


class VisionAttention(nn.Module):
    """Multi-head self-attention with biases."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """X [B, N, width] -> [B, N, width]; every token sees every token."""
        query, key, value = (
            projection(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(attend(query, key, value))


class VisionMLP(nn.Module):
    """Two layers with tanh-approximated GELU."""

    def __init__(self, width: int, mlp_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, mlp_dim)
        self.fc2 = nn.Linear(mlp_dim, width)

    def forward(self, x: Tensor) -> Tensor:
        """X [..., width] -> [..., width]."""
        return recomputed(lambda hidden: self.fc2(F.gelu(hidden, approximate="tanh")), self.fc1(x))


class VisionBlock(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.width, eps=1e-6)
        self.self_attn = VisionAttention(config.width, config.num_heads)
        self.layer_norm2 = nn.LayerNorm(config.width, eps=1e-6)
        self.mlp = VisionMLP(config.width, config.mlp_dim)

    def forward(self, x: Tensor) -> Tensor:
        """X [B, N, width] -> [B, N, width]."""
        x = x + self.self_attn(self.layer_norm1(x).to(compute_dtype(x)))
        return x + self.mlp(self.layer_norm2(x).to(compute_dtype(x)))


class VisionEncoder(nn.Module):
    """The stack of layers, under the published name `encoder.layers`."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(VisionBlock(config) for _ in range(config.depth))

    def forward(self, x: Tensor) -> Tensor:
        """X [B, N, width] -> [B, N, width]."""
        for layer in self.layers:
            x = layer(x)
        return x


class VisionTower(nn.Module):
    """SigLIP without its pooling head: images to one vector a patch."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.embeddings = PatchEmbeddings(config)
        self.encoder = VisionEncoder(config)
        self.post_layernorm = nn.LayerNorm(config.width, eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [-1, 1] -> [B, patches, width]."""
        x = self.embeddings(images).to(self.post_layernorm.weight.dtype)  # embeddings stay float32 in bfloat16 files
        return self.post_layernorm(self.encoder(x))
