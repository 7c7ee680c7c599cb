"""OpenGait's SwinGait in PyTorch: sequences of equal length side by side, with windows rolled and masked."""

import torch
import torch.nn.functional as F
from torch import nn

from torch_reference.models import (
    BasicBlock,
    BlockP3D,
    BNNecks,
    Named,
    SeparateFCs,
    conv,
    max_over_time,
    norm,
    pyramid,
    side_by_side,
)

WINDOW, SHIFT = (3, 3, 5), (1, 1, 2)


def cut(x, window):
    """[n, s, h, w, c] → [windows, tokens, c]."""
    n, s, h, w, c = x.shape
    t, r, k = window
    x = x.reshape(n, s // t, t, h // r, r, w // k, k, c).permute(0, 1, 3, 5, 2, 4, 6, 7)
    return x.reshape(-1, t * r * k, c)


def join(x, window, shape):
    s, h, w = shape
    t, r, k = window
    x = x.reshape(-1, s // t, h // r, w // k, t, r, k, x.shape[-1]).permute(0, 1, 4, 2, 5, 3, 6, 7)
    return x.reshape(-1, s, h, w, x.shape[-1])


def mask_of(shape, window, shift):
    """[windows of a sequence, tokens, tokens]: −100 between tokens of different regions."""
    regions = torch.zeros(1, *shape, 1)
    number = 0
    spans = [
        (slice(-w), slice(-w, -k), slice(-k, None)) if k else (slice(None),)
        for w, k in zip(window, shift, strict=True)
    ]
    for times in spans[0]:
        for rows in spans[1]:
            for columns in spans[2]:
                regions[:, times, rows, columns] = number
                number += 1
    regions = cut(regions, window)[..., 0]
    return torch.where(regions[:, None] == regions[:, :, None], 0.0, -100.0)


class Attention(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.heads = features // 16
        self.relative_position_bias_table = nn.Parameter(torch.zeros(5 * 5 * 9, self.heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        t, h, w = torch.meshgrid(*map(torch.arange, WINDOW), indexing="ij")
        t, h, w = (x.flatten()[:, None] - x.flatten()[None] for x in (t, h, w))
        self.register_buffer("relative_position_index", 45 * (t + 2) + 9 * (h + 2) + w + 4)
        self.qkv = linear(features, 3 * features)
        self.proj = linear(features, features)

    def forward(self, x, mask):
        count, tokens, features = x.shape
        q, k, v = self.qkv(x).reshape(count, tokens, 3, self.heads, 16).permute(2, 0, 3, 1, 4)
        scores = (q * 16**-0.5) @ k.transpose(-2, -1)
        index = self.relative_position_index[:tokens, :tokens]
        scores = scores + self.relative_position_bias_table[index].permute(2, 0, 1)
        if mask is not None:
            scores = scores + mask.repeat(count // len(mask), 1, 1)[:, None].to(scores)
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(count, tokens, features))


class Block(nn.Module):
    def __init__(self, features, shifted):
        super().__init__()
        self.shifted = shifted
        self.norm1 = nn.LayerNorm(features)
        self.attn = Attention(features)
        self.norm2 = nn.LayerNorm(features)
        self.mlp = nn.Module()
        self.mlp.fc1 = linear(features, 4 * features)
        self.mlp.fc2 = linear(4 * features, features)

    def forward(self, x):
        """[n, s, h, w, c] → the same."""
        x = x + self.attend(self.norm1(x))
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x))))

    def attend(self, x):
        frames = x.shape[1]
        window = (min(WINDOW[0], frames), *WINDOW[1:])
        shift = (SHIFT[0] if frames > WINDOW[0] else 0, *SHIFT[1:]) if self.shifted else (0, 0, 0)
        x = F.pad(x, (0, 0, 0, 0, 0, 0, 0, -frames % window[0]))
        shape = x.shape[1:4]
        mask = mask_of(shape, window, shift) if self.shifted else None
        x = torch.roll(x, [-k for k in shift], (1, 2, 3))
        x = join(self.attn(cut(x, window), mask), window, shape)
        return torch.roll(x, shift, (1, 2, 3))[:, :frames]


def linear(inputs, outputs, bias=True):
    layer = nn.Linear(inputs, outputs, bias)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    return layer


class Stage(nn.Module):
    def __init__(self, features, count, after):
        super().__init__()
        self.blocks = nn.Sequential(*(Block(features, i % 2 == 1) for i in range(count)))
        if after:
            self.downsample = nn.Sequential(nn.LayerNorm(features), linear(features, after, bias=False))

    def forward(self, x):
        x = self.blocks(x)
        return self.downsample(x) if hasattr(self, "downsample") else x


class SwinGait(nn.Module):
    """Without drop path."""

    def __init__(self, layers, channels, widths, parts, num_classes, drop_path=0.0):
        super().__init__()
        self.parts = parts
        first, second = channels
        self.layer0 = Named(
            "forward_block", nn.Sequential(conv(2, 1, first, (3, 3)), norm(2, first), nn.ReLU())
        )
        blocks = (BasicBlock(2, first, first, 1) for _ in range(layers[0]))
        self.layer1 = Named("forward_block", nn.Sequential(*blocks))
        self.layer2 = nn.Sequential(
            BlockP3D(first, second, 2), *(BlockP3D(second, second, 1) for _ in range(layers[1] - 1))
        )
        transformer = nn.Module()
        transformer.patch_embed = nn.Module()
        transformer.patch_embed.proj = nn.Conv3d(second, widths[0], (1, 2, 2), (1, 2, 2))
        nn.init.xavier_uniform_(transformer.patch_embed.proj.weight)
        transformer.patch_embed.norm = nn.LayerNorm(widths[0])
        transformer.layers = nn.Sequential(
            Stage(widths[0], layers[2], widths[1]), Stage(widths[1], layers[3], None)
        )
        transformer.norm = nn.LayerNorm(widths[1])
        self.transformer = transformer
        self.FCs = SeparateFCs(parts + 1, widths[1], widths[0])
        self.BNNecks = BNNecks(parts + 1, widths[0], num_classes)

    def forward(self, frames, lengths):
        x = self.layer1(self.layer0(frames[:, None]))
        in_a_line = lengths[:1] if len(set(lengths)) == 1 else lengths
        x = x.unflatten(0, (-1, sum(in_a_line))).transpose(1, 2)
        for block in self.layer2:
            x = block(x, in_a_line)
        x = x.transpose(1, 2).flatten(0, 1)
        x = F.interpolate(x, (30, 20), mode="bilinear", align_corners=True)
        x = self.transformer.patch_embed.proj(x.transpose(0, 1)[None])[0].permute(1, 2, 3, 0)
        x = self.transformer.patch_embed.norm(x)
        batches = side_by_side(x.split(lengths))
        x = torch.cat([self.transformer.layers(batch).flatten(0, 1) for batch in batches])
        x = self.transformer.norm(x).permute(0, 3, 1, 2)
        parts = pyramid(max_over_time(x, lengths), (self.parts,))
        embeddings = self.FCs(torch.cat([parts, parts[:, -1:].detach()], 1))
        return embeddings[:, :-1], self.BNNecks(embeddings)[:, :-1]
