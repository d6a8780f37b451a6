"""A small U-Net for images: down and up again, every block modulated by time and condition.

Source: Ho et al. 2020, https://arxiv.org/abs/2006.11239, appendix B, made smaller
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from pathline.networks.embedding import Conditioning
from pathline.networks.text import Attention, TextForm, Words


class UNet(nn.Module):
    """A network for images of shape `(batch, channels, height, width)`.

    Args:
        channels: Of an image.
        width: Channels at full resolution; each level below has twice as many as the one above.
        depth: The number of levels: sides must be multiples of 2^(depth - 1).
        classes: The number of classes, or None; the null class has the index `classes`.
        heads: How many predictions it makes, side by side.
        has_attention: Whether pixels of the lowest level attend to each other.
        numbers: How many numbers of about unit size each sample is conditioned on, or None; the null condition is NaN.
        text: The form of captions that samples are conditioned on, or None; pixels look at the words on every level
            but the first.

    Conditions are a dictionary, `{"class": ..., "numbers": ..., "text": ...}`; the value of an only kind may be bare.

    Raises:
        ValueError: If a size is not positive, or the width is no multiple of 8.
    """

    def __init__(
        self,
        channels: int,
        width: int = 32,
        depth: int = 2,
        classes: int | None = None,
        heads: int = 1,
        has_attention: bool = True,
        numbers: int | None = None,
        text: TextForm | None = None,
    ) -> None:
        super().__init__()
        if min(channels, width, depth, heads) < 1 or width % 8:
            raise ValueError(
                f"channels, depth and heads must be at least 1 and width a multiple of 8, "
                f"got {channels}, {depth}, {heads} and {width}"
            )
        self.classes = classes
        self.numbers = numbers
        self.text = text
        self.depth = depth
        embedding = 4 * width
        widths = [width * 2**level for level in range(depth)]
        self.condition = Conditioning(embedding, classes, numbers, text)
        self.null = self.condition.null
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(_Block(widths[max(level - 1, 0)], w, embedding) for level, w in enumerate(widths))
        self.middle = _Block(widths[-1], widths[-1], embedding)
        self.attention = _Attention(widths[-1]) if has_attention else nn.Identity()
        self.up = nn.ModuleList(
            _Block(w + widths[min(level + 1, depth - 1)], w, embedding) for level, w in enumerate(widths)
        )
        lower = range(1, depth) if depth > 1 else range(1)
        self.reading = nn.ModuleDict(
            {f"{way}{level}": _Reading(widths[level], embedding) for way in ("down", "up") for level in lower if text}
        )
        self.last = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, heads * channels, 3, padding=1))
        nn.init.zeros_(self.last[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor, t: Tensor, y: Any = None) -> Tensor:
        """The prediction, of shape `(batch, heads * channels, height, width)`.

        Raises:
            ValueError: If images have another number of channels, or a side that cannot be halved often enough.
        """
        if x.ndim != 4 or x.shape[1] != self.first.in_channels:
            raise ValueError(
                f"points must have shape (batch, {self.first.in_channels}, height, width) for this U-Net, got "
                f"{tuple(x.shape)}; it was made with channels={self.first.in_channels}"
            )
        factor = 2 ** (self.depth - 1)
        if x.shape[-1] % factor or x.shape[-2] % factor:
            raise ValueError(f"the sides of an image must be multiples of {factor}, got {tuple(x.shape[-2:])}")
        c, words = self.condition(t, y)
        h = self.first(x)
        skips = []
        for level, block in enumerate(self.down):
            h = block(nn.functional.avg_pool2d(h, 2) if level else h, c)
            h = self._read(f"down{level}", h, words)
            skips.append(h)
        h = self.attention(self.middle(h, c))
        for level, block in reversed(list(enumerate(self.up))):
            h = block(torch.cat((h, skips[level]), 1), c)
            h = self._read(f"up{level}", h, words)
            if level:
                h = nn.functional.interpolate(h, scale_factor=2.0)
        return self.last(h)  # type: ignore[no-any-return]

    def _read(self, place: str, h: Tensor, words: Words | None) -> Tensor:
        return self.reading[place](h, words) if place in self.reading else h


class _Block(nn.Module):
    def __init__(self, inner: int, outer: int, embedding: int) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.GroupNorm(8, inner), nn.SiLU(), nn.Conv2d(inner, outer, 3, padding=1))
        self.norm = nn.GroupNorm(8, outer)
        self.modulation = nn.Linear(embedding, 2 * outer)
        self.after = nn.Sequential(nn.SiLU(), nn.Conv2d(outer, outer, 3, padding=1))
        self.skip = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        scale, shift = self.modulation(c)[:, :, None, None].chunk(2, 1)
        h = torch.addcmul(shift, self.norm(self.before(x)), 1 + scale)
        return self.skip(x) + self.after(h)  # type: ignore[no-any-return]


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, width)
        self.mix = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.mix(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.out(seen).transpose(1, 2).reshape(x.shape)  # type: ignore[no-any-return]


class _Reading(nn.Module):
    """Pixels, which know where they are, look at words."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.place = nn.Linear(8, width, bias=False)
        self.attention = Attention(width, context)

    def forward(self, x: Tensor, words: Words) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2) + self.place(_places(x))
        return x + self.attention(tokens, words).transpose(1, 2).reshape(x.shape)  # type: ignore[no-any-return]


def _places(x: Tensor) -> Tensor:
    """Waves of half a period and of a whole one down and across an image, of shape `(pixels, 8)`."""
    real = torch.promote_types(x.dtype, torch.float32)
    down, across = (torch.linspace(-1, 1, side, dtype=real, device=x.device) for side in x.shape[-2:])
    angles = torch.stack(torch.meshgrid(down, across, indexing="ij"), -1).flatten(0, 1) * math.pi
    angles = torch.cat((angles / 2, angles), 1)
    return torch.cat((angles.sin(), angles.cos()), 1).to(x.dtype)
