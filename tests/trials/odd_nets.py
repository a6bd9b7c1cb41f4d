"""Odd models for tests/strangers.py: each takes 3 x 8 x 8 images, and does one thing unusually."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize


def _conv(*sizes, **options):
    return nn.Conv2d(*sizes, 3, padding=1, **options)


def _net(*layers, width=8, num_classes=4):
    return nn.Sequential(
        *layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes)
    )


class Own(nn.Module):
    """A net with layers under names, and a forward of its own."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self._run = forward

    def forward(self, x):
        return self._run(self, x)


def shared_block(shape, num_classes):
    block = nn.Sequential(_conv(8, 8), nn.BatchNorm2d(8), nn.ReLU())
    return _net(_conv(3, 8), block, nn.MaxPool2d(2), block)


def weight_norm(shape, num_classes):
    return _net(
        parametrizations.weight_norm(_conv(3, 8)), parametrizations.weight_norm(_conv(8, 8))
    )


def old_weight_norm(shape, num_classes):
    return _net(nn.utils.weight_norm(_conv(3, 8)), nn.utils.weight_norm(_conv(8, 8)))


def spectral_norm(shape, num_classes):
    return _net(parametrizations.spectral_norm(_conv(3, 8)), nn.ReLU(), _conv(8, 8))


def old_spectral_norm(shape, num_classes):
    return _net(nn.utils.spectral_norm(_conv(3, 8)), nn.ReLU(), _conv(8, 8))


def transposed(shape, num_classes):
    return _net(_conv(3, 8), nn.ReLU(), nn.ConvTranspose2d(8, 12, 2, 2, groups=2), width=12)


def _rows(layer):
    def forward(net, x):
        outputs, _ = net.layer(x.flatten(1, 2).transpose(1, 2))
        return net.head(outputs[:, -1])

    return Own(forward, layer=layer, head=nn.Linear(16, 4))


def lstm(shape, num_classes):
    return _rows(nn.LSTM(24, 8, num_layers=2, batch_first=True, bidirectional=True))


def gru(shape, num_classes):
    return _rows(nn.GRU(24, 16, batch_first=True))


def lstm_projected(shape, num_classes):
    return _rows(nn.LSTM(24, 32, batch_first=True, proj_size=16))


def group_norm(shape, num_classes):
    return _net(
        _conv(3, 8),
        nn.GroupNorm(2, 8),
        nn.ReLU(),
        _conv(8, 8),
        nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
    )


def frozen(shape, num_classes):
    net = _net(_conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), _conv(8, 8))
    net[0].requires_grad_(False)
    net[1].requires_grad_(False)
    return net


def unused_head(shape, num_classes):
    return Own(lambda net, x: net.trunk(x), trunk=_net(_conv(3, 8)), head=nn.Linear(8, 4))


def model_output(shape, num_classes):
    from transformers.modeling_outputs import ImageClassifierOutput

    return Own(lambda net, x: ImageClassifierOutput(logits=net.trunk(x)), trunk=_net(_conv(3, 8)))


class Centred(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("last", torch.zeros(width), persistent=False)

    def forward(self, x):
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(x.mean((0, 2, 3)), 0.1)
                self.count += 1
                self.last = x.mean((0, 2, 3))
        return x - self.mean[:, None, None]


def updated_buffers(shape, num_classes):
    return _net(_conv(3, 8), Centred(8), nn.ReLU(), _conv(8, 8))


class Spectral(nn.Module):
    """Multiplies Fourier coefficients by complex weights, as global filter networks do."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8, 5, dtype=torch.complex64) * 0.1)

    def forward(self, x):
        return torch.fft.irfft2(torch.fft.rfft2(x) * self.weight, s=x.shape[-2:])


def complex_weights(shape, num_classes):
    return _net(_conv(3, 8), Spectral(), nn.ReLU(), _conv(8, 8))


class ComplexLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 192, dtype=torch.complex64) * 0.1)

    def forward(self, x):
        return (x.flatten(1).to(self.weight.dtype) @ self.weight.mT).abs()


def complex_linear(shape, num_classes):
    return nn.Sequential(ComplexLinear(), nn.Linear(16, 4))


class Gain(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return x * self.gain


def zero_dim(shape, num_classes):
    return _net(_conv(3, 8), Gain(), nn.ReLU(), _conv(8, 8))


def tied(shape, num_classes):
    first, second = nn.Linear(192, 16), nn.Linear(192, 16)
    second.weight = first.weight
    return Own(
        lambda net, x: net.head(net.first(x.flatten(1)) * net.second(x.flatten(1))),
        first=first,
        second=second,
        head=nn.Linear(16, 4),
    )


def transposed_tie(shape, num_classes):
    """An autoencoder's decoder that computes with its encoder's weight."""
    return Own(
        lambda net, x: net.head(F.linear(net.encoder(x.flatten(1)).relu(), net.encoder.weight.T)),
        encoder=nn.Linear(192, 16),
        head=nn.Linear(192, 4),
    )


def lazy(shape, num_classes):
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(num_classes))


def lazy_called(shape, num_classes):
    net = lazy(shape, num_classes)
    net(torch.zeros(1, *shape))
    return net


def parameter_list(shape, num_classes):
    weights = nn.ParameterList([torch.randn(192, 16) * 0.1, torch.randn(16, 16) * 0.2])

    def forward(net, x):
        x = x.flatten(1)
        for weight in net.weights:
            x = (x @ weight).relu()
        return net.head(x)

    return Own(forward, weights=weights, head=nn.Linear(16, 4))


class Ternary(torch.autograd.Function):
    """Straight-through: computes with signs of the weights, zeros stay zeros."""

    @staticmethod
    def forward(ctx, weight):
        return weight.sign() * weight.abs().mean()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class TernaryLinear(nn.Linear):
    def forward(self, x):
        return F.linear(x, Ternary.apply(self.weight), self.bias)


def custom_autograd(shape, num_classes):
    return nn.Sequential(nn.Flatten(), TernaryLinear(192, 16), nn.ReLU(), nn.Linear(16, 4))


class Binary(torch.autograd.Function):
    """Computes with signs, of which zero has one, too."""

    @staticmethod
    def forward(ctx, weight):
        return torch.where(weight >= 0, 0.1, -0.1)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class BinaryLinear(nn.Linear):
    def forward(self, x):
        return F.linear(x, Binary.apply(self.weight), self.bias)


def binary(shape, num_classes):
    return nn.Sequential(nn.Flatten(), BinaryLinear(192, 16), nn.ReLU(), nn.Linear(16, 4))


class CosineLinear(nn.Linear):
    """Divides each row by its norm: zeros stay zeros."""

    def forward(self, x):
        return 10 * F.linear(F.normalize(x), F.normalize(self.weight), self.bias)


def cosine(shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), CosineLinear(16, 4))


def bf16(shape, num_classes):
    return Own(
        lambda net, x: net.trunk(x.bfloat16()).float(),
        trunk=_net(_conv(3, 8), nn.ReLU(), _conv(8, 8)).bfloat16(),
    )


def bf16_part(shape, num_classes):
    return Own(
        lambda net, x: net.head(net.trunk(x.flatten(1).bfloat16()).float().relu()),
        trunk=nn.Linear(192, 16).bfloat16(),
        head=nn.Linear(16, 4),
    )


def float64(shape, num_classes):
    return Own(lambda net, x: net.trunk(x.double()), trunk=_net(_conv(3, 8)).double())


def orthogonal(shape, num_classes):
    return _net(_conv(3, 8), parametrizations.orthogonal(nn.Conv2d(8, 8, 1)))


def bilinear(shape, num_classes):
    return Own(
        lambda net, x: net.product(net.one(x.flatten(1)), net.other(x.flatten(1))),
        one=nn.Linear(192, 8),
        other=nn.Linear(192, 6),
        product=nn.Bilinear(8, 6, 4),
    )


class Standardised(nn.Conv2d):
    """Subtracts the mean of each filter from it: what is stored as zero is none."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias, padding=1)


def standardised(shape, num_classes):
    return _net(_conv(3, 8), nn.ReLU(), Standardised(8, 8, 3))


class Softmaxed(nn.Module):
    """Mixes by weights that a softmax makes positive."""

    def __init__(self):
        super().__init__()
        self.mixing = nn.Parameter(torch.randn(16, 192))

    def forward(self, x):
        return x.flatten(1) @ self.mixing.softmax(1).T


def softmaxed(shape, num_classes):
    return nn.Sequential(Softmaxed(), nn.Linear(16, 4))


class LowRank(nn.Module):
    """Computes with the product of two matrices."""

    def __init__(self):
        super().__init__()
        self.left, self.right = (
            nn.Parameter(torch.randn(16, 4) / 4),
            nn.Parameter(torch.randn(4, 192) / 14),
        )

    def forward(self, x):
        return F.linear(x.flatten(1), self.left @ self.right)


def low_rank(shape, num_classes):
    return nn.Sequential(LowRank(), nn.ReLU(), nn.Linear(16, 4))


class Adapted(nn.Linear):
    """A low-rank addition to a frozen weight, as LoRA has it."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.weight.requires_grad_(False)
        self.a, self.b = nn.Linear(sizes[0], 2, bias=False), nn.Linear(2, sizes[1], bias=False)

    def forward(self, x):
        return super().forward(x) + self.b(self.a(x))


def adapted(shape, num_classes):
    return nn.Sequential(nn.Flatten(), Adapted(192, 16), nn.ReLU(), nn.Linear(16, 4))


class Slice(nn.Module):
    """One parameter whose parts are the weights of several products."""

    def __init__(self):
        super().__init__()
        self.pool = nn.Parameter(torch.randn(3, 16, 16) / 4)

    def forward(self, x):
        for weight in self.pool:
            x = (x @ weight).relu()
        return x


def strided_view(shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 16), Slice(), nn.Linear(16, 4))


def multihead(shape, num_classes):
    layer = nn.TransformerEncoderLayer(24, 2, 16, batch_first=True)
    return Own(
        lambda net, x: net.head(net.layer(x.flatten(1, 2).mT).mean(1)),
        layer=layer,
        head=nn.Linear(24, 4),
    )


def multihead_apart(shape, num_classes):
    layer = nn.MultiheadAttention(24, 2, kdim=24, vdim=8, batch_first=True)

    def forward(net, x):
        rows = x.flatten(1, 2).mT
        return net.head(net.layer(rows, rows, rows[..., :8])[0].mean(1))

    layer = nn.MultiheadAttention(24, 2, kdim=24, vdim=8, batch_first=True)
    return Own(forward, layer=layer, head=nn.Linear(24, 4))


def auxiliary(shape, num_classes):
    def forward(net, x):
        x = net.trunk(x).mean((2, 3))
        return (net.head(x), net.other(x)) if net.training else net.head(x)

    return Own(forward, trunk=_conv(3, 8), head=nn.Linear(8, 4), other=nn.Linear(8, 4))


class FunctionalNorm(nn.Module):
    """Batch norm by hand, with statistics in buffers of its own names."""

    def __init__(self, width):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("average", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))

    def forward(self, x):
        return F.batch_norm(x, self.average, self.spread, self.scale, self.shift, self.training)


def functional_norm(shape, num_classes):
    return _net(_conv(3, 8), FunctionalNorm(8), nn.ReLU(), _conv(8, 8))


def depthwise(shape, num_classes):
    return _net(_conv(3, 6, groups=3), nn.ReLU(), _conv(6, 8, groups=2), _conv(8, 8, groups=8))


def volumes(shape, num_classes):
    return Own(
        lambda net, x: net.head(net.line(net.volume(x[:, None]).flatten(2)).mean(2)),
        volume=nn.Conv3d(1, 4, 3, padding=1),
        line=nn.ConvTranspose1d(4, 8, 3),
        head=nn.Linear(8, 4),
    )


class Gelu(nn.Module):
    """Builds a layer when it is first called, by hand."""

    def __init__(self):
        super().__init__()
        self.layer = None

    def forward(self, x):
        if self.layer is None:
            self.layer = nn.Linear(x[0].numel(), 4)
        return self.layer(x.flatten(1))


def built_late(shape, num_classes):
    return Gelu()


def asks_values(shape, num_classes):
    """A constructor that asks tensors for values, and a forward that does."""
    rates = [rate.item() for rate in torch.linspace(0, 0.1, 2)]

    def forward(net, x):
        return net.trunk(x) * (1 if float(x.sum()) > 0 else 1.0 + rates[1])

    return Own(forward, trunk=_net(_conv(3, 8), nn.Dropout(rates[1])))


def scripted(shape, num_classes):
    return torch.jit.script(_net(_conv(3, 8)))


def compiled(shape, num_classes):
    return torch.compile(_net(_conv(3, 8)), backend="eager")


class Mixture(nn.Module):
    """Experts of which some get no sample in a step."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(192, 3)
        self.experts = nn.ModuleList(nn.Linear(192, 8) for _ in range(3))
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = x.flatten(1)
        share, number = self.gate(x).softmax(1).max(1)
        outputs = torch.zeros(len(x), 8, device=x.device)
        for i, expert in enumerate(self.experts):
            if (number == i).any():
                outputs[number == i] = expert(x[number == i]) * share[number == i, None]
        return self.head(outputs)


def mixture(shape, num_classes):
    return Mixture()


class Symmetric(nn.Module):
    def forward(self, weight):
        return weight.triu() + weight.triu(1).mT


def symmetric(shape, num_classes):
    layer = nn.Linear(16, 16)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 16), layer, nn.ReLU(), nn.Linear(16, 4))


class Modulated(nn.Module):
    """A filter that each sample scales, as in StyleGAN: the products are grouped by sample."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 3, 3, 3) / math.sqrt(27))
        self.style = nn.Linear(3, 3)

    def forward(self, x):
        style = self.style(x.mean((2, 3))) + 1
        weight = self.weight * style[:, None, :, None, None]
        return F.conv2d(
            x.reshape(1, -1, 8, 8), weight.flatten(0, 1), padding=1, groups=len(x)
        ).view(len(x), 8, 8, 8)


def modulated(shape, num_classes):
    return _net(Modulated())


def einsum(shape, num_classes):
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.kernel = nn.Parameter(torch.randn(3, 8, 8, 16) / 14)

        def forward(self, x):
            return torch.einsum("nchw,chwo->no", x, self.kernel)

    return nn.Sequential(Sum(), nn.ReLU(), nn.Linear(16, 4))


def no_dropout_seed(shape, num_classes):
    """Draws random numbers while it is evaluated."""
    return Own(lambda net, x: net.trunk(x + 0.01 * torch.randn_like(x)), trunk=_net(_conv(3, 8)))
