"""DeepGaitV2 as OpenGait's FoundationGait fine-tunes it; activations are not computed again for gradients."""

import torch
import torch.nn.functional as F
from torch import nn

from torch_reference.models import BNNecks, DeepGaitV2, Named, SeparateFCs, max_over_time, norm, pyramid


class FoundationGait(nn.Module):
    """DeepGaitV2 with a projector; in training its batch goes through in pieces that are cut into strips."""

    def __init__(self, mode, layers, channels, bins, embed_dim, num_classes, crops=()):
        super().__init__()
        self.bins, self.crops = bins, crops
        inner = DeepGaitV2(mode, layers, channels, num_classes)
        del inner.FCs, inner.BNNecks
        parts, features = sum(bins), channels[3]

        def fcs():
            return SeparateFCs(parts, features, features)

        def normed():
            return Named("bn1d", norm(1, features * parts))

        inner.projector = nn.Sequential(fcs(), normed(), nn.ReLU(), fcs(), normed())
        inner.predictor = nn.Sequential(fcs(), normed(), nn.ReLU(), fcs())
        self.teacher_backbone = inner
        self.FCs = SeparateFCs(parts, features, embed_dim)
        self.BNNecks = BNNecks(parts, embed_dim, num_classes)

    def forward(self, frames, lengths):
        if self.training and self.crops:
            clips = torch.stack(frames.split(lengths)).chunk(len(self.crops))
            x = torch.cat([self.strips(*pair) for pair in zip(clips, self.crops, strict=True)])
        else:
            x = self.teacher_backbone.features(frames, lengths)
        x = pyramid(max_over_time(x, lengths), self.bins)
        for layer in self.teacher_backbone.projector:
            if isinstance(layer, Named):
                parts, features = x.shape[1:]
                x = layer(x.transpose(1, 2).flatten(1)).unflatten(1, (features, parts)).transpose(1, 2)
            else:
                x = layer(x)
        embeddings = self.FCs(F.normalize(x, dim=-1))
        return embeddings, self.BNNecks(embeddings)

    def strips(self, clips, count):
        """[n, s, h, w] → features [n·s, c, h2, w2]."""
        n, s, h, _ = clips.shape
        if count == 1:
            return self.teacher_backbone.features(clips.flatten(0, 1), [s] * n)
        size = h // count
        moved = F.pad(clips[n // 2 :], (0, 0, size // 2, size // 2))
        cut = [*torch.stack(clips[: n // 2].split(size, 2), 1).flatten(0, 1)]
        cut += [*torch.stack(moved.split(size, 2), 1).flatten(0, 1)]
        x = self.teacher_backbone.features(torch.cat(cut), [s] * len(cut)).unflatten(0, (len(cut), s))
        first = x[: n // 2 * count].unflatten(0, (n // 2, count))
        second = x[n // 2 * count :].unflatten(0, (n // 2, count + 1))
        first, second = (torch.cat([*half.unbind(1)], 3) for half in (first, second))
        return torch.cat([first, second[:, :, :, size // 8 : -(size // 8)]]).flatten(0, 1)
