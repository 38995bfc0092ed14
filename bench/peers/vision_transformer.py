"""Three layers of a vision transformer (Dosovitskiy et al. 2021), called as those of timm are.

They stand in for `timm.models.vision_transformer` where timm is not installed; whatever else it takes they refuse.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class PatchEmbed(nn.Module):
    """Square images (N, C, size, size) to tokens (N, patches, embed_dim), a patch each."""

    def __init__(self, img_size: int, patch_size: int, in_chans: int, embed_dim: int, bias: bool = True) -> None:
        super().__init__()
        self.patch_size = patch_size, patch_size
        self.num_patches = (img_size // patch_size) ** 2
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, patch_size, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        """Embed every patch."""
        tokens: Tensor = self.proj(images)
        return tokens.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Every token (N, tokens, dim) looks at every other, by several heads."""

    def __init__(self, dim: int, num_heads: int = 8, qkv_bias: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the same shape."""
        parts = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        seen = scaled_dot_product_attention(*parts.unbind())
        mixed: Tensor = self.proj(seen.transpose(1, 2).flatten(2))
        return mixed


class Mlp(nn.Module):
    """Two layers with `act_layer` between them, for each token on its own."""

    def __init__(
        self, in_features: int, hidden_features: int, act_layer: Callable[[], nn.Module] = nn.GELU, drop: float = 0.0
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = act_layer()
        self.drop = nn.Dropout(drop)
        self.fc2 = nn.Linear(hidden_features, in_features)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the same shape."""
        out: Tensor = self.drop(self.fc2(self.drop(self.act(self.fc1(tokens)))))
        return out


LAYERS = {"PatchEmbed": PatchEmbed, "Attention": Attention, "Mlp": Mlp}
"""By the names that code imports."""
