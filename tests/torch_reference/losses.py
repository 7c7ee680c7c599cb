"""The losses, written out triplet by triplet."""

import torch
import torch.nn.functional as F


def metric_loss(embeddings, labels, margin, gamma=0.0):
    """Returns the per-part triplet (gamma = 0) or MCL loss [parts] of embeddings [n, parts, c]."""
    x = embeddings.transpose(0, 1)
    squared = (x**2).sum(-1)[:, :, None] + (x**2).sum(-1)[:, None, :] - 2 * x @ x.transpose(1, 2)
    # The distance to itself is made exactly 0: what rounding leaves there has an arbitrary, huge gradient.
    squared = squared.masked_fill(torch.eye(x.shape[1], dtype=torch.bool), 0.0)
    d = F.relu(squared).sqrt()
    d = d**gamma * d if gamma else d
    same = labels[:, None] == labels[None, :]
    terms = F.relu(d[:, :, :, None] - d[:, :, None, :] + margin)
    terms = terms * (same[:, :, None] & ~same[:, None, :])
    counts = (terms > 0).sum((1, 2, 3))
    return terms.sum((1, 2, 3)) / counts.clamp(min=1)


def cross_entropy(logits, labels, scale=16.0, smoothing=0.1):
    """Returns the mean over sequences and parts of logits [n, parts, classes]."""
    n, parts, _ = logits.shape
    return F.cross_entropy(
        scale * logits.transpose(1, 2), labels[:, None].expand(n, parts), label_smoothing=smoothing
    )
