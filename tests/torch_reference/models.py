"""OpenGait's models in PyTorch. A batch is [frames, h, w] of consecutive sequences, and their lengths."""

import itertools

import torch
import torch.nn.functional as F
from torch import nn


def conv(dims, inputs, outputs, kernel, stride=1):
    """A bias-free convolution padded by half its kernel."""
    kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims]
    layer = kind(inputs, outputs, kernel, stride, [k // 2 for k in kernel], bias=False)
    nn.init.xavier_uniform_(layer.weight)
    return layer


def norm(dims, features):
    layer = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims](features)
    nn.init.normal_(layer.weight, 1.0, 0.02)
    return layer


class Named(nn.Module):
    """A module under the attribute OpenGait calls it by."""

    def __init__(self, attribute, module):
        super().__init__()
        self.attribute = attribute
        setattr(self, attribute, module)

    def forward(self, x):
        return getattr(self, self.attribute)(x)


def max_over_time(x, lengths):
    """[frames, ...] → [n, ...]."""
    return torch.stack([clip.amax(0) for clip in x.split(lengths)])


def side_by_side(clips, dim=0):
    """Returns one stack of the clips if they are equally long, else a stack for each."""
    if len({clip.shape for clip in clips}) == 1:
        return [torch.stack(clips, dim)]
    return [clip.unsqueeze(dim) for clip in clips]


def pyramid(x, bins):
    """[n, c, h, w] → [n, sum(bins), c]."""
    strips = [x.reshape(*x.shape[:2], b, -1) for b in bins]
    return torch.cat([s.mean(-1) + s.max(-1)[0] for s in strips], -1).transpose(1, 2)


class SeparateFCs(nn.Module):
    def __init__(self, parts, inputs, outputs):
        super().__init__()
        self.fc_bin = nn.Parameter(torch.zeros(parts, inputs, outputs))
        nn.init.xavier_uniform_(self.fc_bin)

    def forward(self, x):
        return torch.einsum("npc,pcd->npd", x, self.fc_bin)


class BNNecks(nn.Module):
    def __init__(self, parts, features, classes):
        super().__init__()
        self.fc_bin = nn.Parameter(torch.zeros(parts, features, classes))
        nn.init.xavier_uniform_(self.fc_bin)
        self.bn1d = norm(1, features * parts)

    def forward(self, x):
        n, parts, features = x.shape
        x = self.bn1d(x.transpose(1, 2).reshape(n, -1)).reshape(n, features, parts).transpose(1, 2)
        return torch.einsum("npc,pck->npk", F.normalize(x, dim=-1), F.normalize(self.fc_bin, dim=1))


class BasicBlock(nn.Module):
    """Two 3×3 (or 3×3×3) convolutions beside an identity or a projection."""

    def __init__(self, dims, inputs, outputs, stride):
        super().__init__()
        steps = stride if dims == 2 else (1, stride, stride)
        self.conv1 = conv(dims, inputs, outputs, (3,) * dims, steps)
        self.bn1 = norm(dims, outputs)
        self.conv2 = conv(dims, outputs, outputs, (3,) * dims)
        self.bn2 = norm(dims, outputs)
        self.downsample = projection(dims, inputs, outputs, steps)

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def projection(dims, inputs, outputs, steps):
    if inputs == outputs and steps in (1, (1, 1, 1)):
        return None
    return nn.Sequential(conv(dims, inputs, outputs, (1,) * dims, steps), norm(dims, outputs))


class BlockP3D(nn.Module):
    """Works on [n, c, s, h, w]."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = Named(
            "forward_block",
            nn.Sequential(conv(2, inputs, outputs, (3, 3), stride), norm(2, outputs), nn.ReLU()),
        )
        self.conv2 = Named(
            "forward_block", nn.Sequential(conv(2, outputs, outputs, (3, 3)), norm(2, outputs))
        )
        self.shortcut3d = conv(3, outputs, outputs, (3, 1, 1))
        self.sbn = norm(3, outputs)
        self.downsample = projection(3, inputs, outputs, (1, stride, stride))

    def forward(self, x, lengths):
        y = per_frame(self.conv1, x)
        y = F.relu(y + self.sbn(over_time(self.shortcut3d, y, lengths)))
        y = per_frame(self.conv2, y)
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def per_frame(module, x):
    """Applies a 2-D module to [n, c, s, h, w]."""
    n, _, s = x.shape[:3]
    y = module(x.transpose(1, 2).flatten(0, 1))
    return y.unflatten(0, (n, s)).transpose(1, 2)


def over_time(module, x, lengths):
    """Applies a 3-D module to [n, c, s, h, w], whose s frames are sequences of these lengths, end to end."""
    if len(lengths) == 1:
        return module(x)
    return torch.cat([module(sequence) for sequence in x.split(lengths, 2)], 2)


class GaitSet(nn.Module):
    def __init__(self, channels, embed_dim, bins=(16, 8, 4, 2, 1)):
        super().__init__()
        self.bins = bins
        c1, c2, c3 = channels
        self.set_block1 = Named("forward_block", conv_pair(1, c1, first=5, pool=True))
        self.set_block2 = Named("forward_block", conv_pair(c1, c2, pool=True))
        self.set_block3 = Named("forward_block", conv_pair(c2, c3))
        self.gl_block2 = conv_pair(c1, c2, pool=True)
        self.gl_block3 = conv_pair(c2, c3)
        self.Head = SeparateFCs(2 * sum(bins), c3, embed_dim)

    def forward(self, frames, lengths):
        x = self.set_block1(frames[:, None])
        g = self.gl_block2(max_over_time(x, lengths))
        x = self.set_block2(x)
        g = self.gl_block3(g + max_over_time(x, lengths))
        x = max_over_time(self.set_block3(x), lengths)
        return self.Head(torch.cat([pyramid(x, self.bins), pyramid(g + x, self.bins)], 1)), None


def conv_pair(inputs, outputs, *, first=3, pool=False):
    layers = [
        Named("conv", conv(2, inputs, outputs, (first, first))),
        nn.LeakyReLU(),
        Named("conv", conv(2, outputs, outputs, (3, 3))),
        nn.LeakyReLU(),
    ]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))


def plain(channels):
    """OpenGait's backbone `Plain` with pooling behind each pair of convolutions but the last."""
    last = len(channels) - 1
    layers = [
        layer
        for i, (before, after) in enumerate(zip((1, *channels), channels, strict=False))
        for layer in conv_pair(before, after, first=3 if i else 5, pool=i < last)
    ]
    return Named("feature", nn.Sequential(*layers))


class GaitBase(nn.Module):
    def __init__(
        self,
        channels,
        embed_dim,
        num_classes,
        layers=(1, 1, 1, 1),
        strides=(1, 2, 2, 1),
        max_pool=False,
        bins=(16,),
        backbone="resnet9",
    ):
        super().__init__()
        self.max_pool, self.bins, self.is_plain = max_pool, bins, backbone == "plain"
        layers = plain(channels) if self.is_plain else self.resnet(channels, layers, strides)
        self.Backbone = Named("forward_block", layers)
        self.FCs = SeparateFCs(sum(bins), channels[3], embed_dim)
        self.BNNecks = BNNecks(sum(bins), embed_dim, num_classes)

    def resnet(self, channels, layers, strides):
        resnet = nn.Module()
        resnet.conv1 = Named("conv", conv(2, 1, channels[0], (3, 3)))
        resnet.bn1 = norm(2, channels[0])
        for i, (before, after, stride, count) in enumerate(
            zip((channels[0], *channels), channels, strides, layers, strict=False)
        ):
            rest = (BasicBlock(2, after, after, 1) for _ in range(count - 1))
            setattr(resnet, f"layer{i + 1}", nn.Sequential(BasicBlock(2, before, after, stride), *rest))
        return resnet

    def features(self, frames):
        if self.is_plain:
            return self.Backbone.forward_block.feature(frames[:, None])
        resnet = self.Backbone.forward_block
        x = F.relu(resnet.bn1(resnet.conv1(frames[:, None])))
        if self.max_pool:
            x = F.max_pool2d(x, 3, 2, 1)
        for i in range(4):
            x = getattr(resnet, f"layer{i + 1}")(x)
        return x

    def forward(self, frames, lengths):
        embeddings = self.FCs(pyramid(max_over_time(self.features(frames), lengths), self.bins))
        return embeddings, self.BNNecks(embeddings)


class DeepGaitV2(nn.Module):
    """In the mode 3d, all lengths of a batch are equal: else neighbours would be convolved together."""

    def __init__(self, mode, layers, channels, num_classes):
        super().__init__()
        self.mode = mode
        c = channels
        self.layer0 = Named(
            "forward_block", nn.Sequential(conv(2, 1, c[0], (3, 3)), norm(2, c[0]), nn.ReLU())
        )
        blocks = {"2d": lambda *a: BasicBlock(2, *a), "3d": lambda *a: BasicBlock(3, *a), "p3d": BlockP3D}
        for i, (before, after, stride, count) in enumerate(
            zip((c[0], *c), c, (1, 2, 2, 1), layers, strict=False)
        ):
            block = blocks[mode if i else "2d"]
            stage = nn.Sequential(
                block(before, after, stride), *(block(after, after, 1) for _ in range(count - 1))
            )
            named = Named("forward_block", stage) if mode == "2d" or i == 0 else stage
            setattr(self, f"layer{i + 1}", named)
        self.FCs = SeparateFCs(16, c[3], c[2])
        self.BNNecks = BNNecks(16, c[2], num_classes)

    def forward(self, frames, lengths):
        embeddings = self.FCs(pyramid(max_over_time(self.features(frames, lengths), lengths), (16,)))
        return embeddings, self.BNNecks(embeddings)

    def features(self, frames, lengths):
        x = self.layer1(self.layer0(frames[:, None]))
        stages = (self.layer2, self.layer3, self.layer4)
        if self.mode == "2d":
            for stage in stages:
                x = stage(x)
        else:
            equal = len(set(lengths)) == 1
            assert equal or self.mode == "p3d"
            in_a_line = lengths[:1] if equal else lengths
            x = x.unflatten(0, (-1, sum(in_a_line))).transpose(1, 2)
            for block in itertools.chain(*stages):
                x = block(x, in_a_line) if self.mode == "p3d" else block(x)
            x = x.transpose(1, 2).flatten(0, 1)
        return x


class GaitPart(nn.Module):
    """Every part goes through its own two branches over time, one after the other."""

    def __init__(self, channels, embed_dim, strips):
        super().__init__()
        self.plan, layers = [], []
        for stage, (before, after, count) in enumerate(zip((1, *channels), channels, strips, strict=False)):
            for inputs, kernel in ((before, 3 if stage else 5), (after, 3)):
                self.plan += [count, 1]
                layers += [Named("conv", conv(2, inputs, after, (kernel, kernel))), nn.LeakyReLU()]
            if stage < 2:
                self.plan.append(1)
                layers.append(nn.MaxPool2d(2))
        self.Backbone = Named("forward_block", Named("feature", nn.ModuleList(layers)))
        self.Head = SeparateFCs(16, channels[-1], embed_dim)
        branches = {
            name: nn.ModuleList(over_window(channels[-1], kernel) for _ in range(16))
            for name, kernel in (("conv1d3x1", 1), ("conv1d3x3", 3))
        }
        self.TFA = Named("pooling_func", nn.ModuleDict(branches))

    def forward(self, frames, lengths):
        x = frames[:, None]
        for count, layer in zip(self.plan, self.Backbone.forward_block.feature, strict=True):
            x = torch.cat([layer(strip) for strip in x.chunk(count, 2)], 2)
        clips = pyramid(x, (16,)).permute(1, 2, 0).split(lengths, 2)
        pooled = [self.aggregate(batch).amax(-1) for batch in side_by_side(clips, 1)]
        return self.Head(torch.cat(pooled, 1).transpose(0, 1)), None

    def aggregate(self, x):
        """[parts, n, c, s] → the same."""
        total, each_by_itself = 0, x.flatten(0, 1)
        for window, branch in zip((3, 5), self.TFA.pooling_func.values(), strict=True):
            scores = torch.stack([torch.sigmoid(each(part)) for each, part in zip(branch, x, strict=True)])
            around = {"kernel_size": window, "stride": 1, "padding": window // 2}
            pooled = F.avg_pool1d(each_by_itself, **around) + F.max_pool1d(each_by_itself, **around)
            total = total + scores * pooled.view_as(x)
        return total


def over_window(features, kernel):
    squeezed = features // 4
    return nn.Sequential(
        Named("conv", conv(1, features, squeezed, (3,))),
        nn.LeakyReLU(),
        Named("conv", conv(1, squeezed, features, (kernel,))),
    )


class GaitGL(nn.Module):
    """Every sequence by itself until it is one vector per row; those of equal lengths side by side."""

    def __init__(self, channels, num_classes, form="small", necks=False):
        super().__init__()
        c = channels
        count, self.strips = (1, 8) if form == "small" else (2, 2)
        layers = [layer for before in (1, c[0])[:count] for layer in (conv3d(before, c[0]), nn.LeakyReLU())]
        self.conv3d = nn.Sequential(*layers)
        aggregation = nn.Conv3d(c[0], c[0], (3, 1, 1), (3, 1, 1), bias=False)
        nn.init.xavier_uniform_(aggregation.weight)
        self.LTA = nn.Sequential(Named("conv3d", aggregation), nn.LeakyReLU())
        outputs = (*c[1:], c[-1]) if form == "small" else c[1:]
        for name, before, after in zip(("A0", "A1", "B2"), c[:1] + outputs, outputs, strict=False):
            pairs = [global_and_local(inputs, after) for inputs in (before, after)[:count]]
            setattr(self, f"GLConv{name}", pairs[0] if count == 1 else nn.ModuleList(pairs))
        self.HPP = nn.Module()
        self.HPP.p = nn.Parameter(torch.full((1,), 6.5))
        self.Head0 = SeparateFCs(64, c[-1], c[-1])
        if necks:
            self.BNNecks = BNNecks(64, c[-1], num_classes)
        else:
            self.Bn = norm(1, c[-1])
            self.Head1 = SeparateFCs(64, c[-1], num_classes)

    def forward(self, frames, lengths):
        rows = torch.cat([self.embed_rows(batch) for batch in side_by_side(frames.split(lengths))])
        features = self.Head0(rows)
        if hasattr(self, "BNNecks"):
            return features, self.BNNecks(features)
        embeddings = self.Bn(features.transpose(1, 2)).transpose(1, 2)
        return embeddings, self.Head1(embeddings)

    def embed_rows(self, clips):
        """[n, s, h, w] → [n, h, c]."""
        repeats = {1: 3, 2: 2}.get(clips.shape[1], 1)
        x = self.LTA(self.conv3d(clips.repeat(1, repeats, 1, 1)[:, None]))
        pairs = [p for name in ("A0", "A1", "B2") for p in as_list(getattr(self, f"GLConv{name}"))]
        for i, pair in enumerate(pairs):
            whole = F.leaky_relu(pair["global_conv3d"](x))
            strips = x.chunk(self.strips, 3)
            local = F.leaky_relu(torch.cat([pair["local_conv3d"](strip) for strip in strips], 3))
            x = torch.cat([whole, local], 3) if i == len(pairs) - 1 else whole + local
            if i == len(pairs) // 3 - 1:
                x = F.max_pool3d(x, (1, 2, 2))
        p = self.HPP.p
        return x.amax(2).clamp(min=1e-6).pow(p).mean(-1).pow(1 / p).transpose(1, 2)


def conv3d(inputs, outputs):
    return Named("conv3d", conv(3, inputs, outputs, (3, 3, 3)))


def global_and_local(inputs, outputs):
    return nn.ModuleDict({f"{kind}_conv3d": conv3d(inputs, outputs) for kind in ("global", "local")})


def as_list(module):
    return list(module) if isinstance(module, nn.ModuleList) else [module]
