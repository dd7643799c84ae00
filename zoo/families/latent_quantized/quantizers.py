"""What lies between an encoder and a decoder: scalars from a grid, vectors from a codebook, a Gaussian, or nothing.

Each takes what the encoder puts out, (n, inputs), and gives `Latent`: what the decoder takes, and the terms that training adds
to the reconstruction error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch


class Latent(NamedTuple):
    """One pass.

    Attributes:
        decoded: (n, outputs), what the decoder takes; its gradient goes straight through a rounding.
        codebook: scalar, what moves the values towards what is rounded to them; commitment: the reverse; kl: (n,) nats.
    """

    decoded: torch.Tensor
    codebook: torch.Tensor | None = None
    commitment: torch.Tensor | None = None
    kl: torch.Tensor | None = None


def straight_through(given: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """`rounded`, with the gradient of `given` (Bengio et al., arXiv 1308.3432)."""
    return given + (rounded - given).detach()


class ScalarQuantizer(torch.nn.Module):
    """Latent quantization (Hsu et al., arXiv 2305.18378, section 3): latent j takes the nearest of its own learnable scalars.

    Attributes:
        values: a parameter (sizes[j],) for each latent, evenly from -1/2 to 1/2 at the start.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.inputs = self.outputs = len(self.sizes)
        self.values = torch.nn.ParameterList(torch.linspace(-0.5, 0.5, size) for size in self.sizes)

    def table(self) -> torch.Tensor:
        """(n_latents, most values): the values, a row a latent; where one has fewer, the rest is infinite."""
        most = max(self.sizes)
        pad = torch.nn.functional.pad
        return torch.stack([pad(v, (0, most - len(v)), value=torch.inf) for v in self.values])

    def nearest(self, given: torch.Tensor) -> torch.Tensor:
        """(n, n_latents) int64: places of the nearest values."""
        return (given.unsqueeze(-1) - self.table().detach()).abs().argmin(-1)

    def looked_up(self, codes: torch.Tensor) -> torch.Tensor:
        """(n, n_latents): the values at (n, n_latents) places, with their gradient."""
        return self.table().gather(1, codes.T).T

    def forward(self, given: torch.Tensor) -> Latent:
        """`codebook` keeps the values' gradient, which is the only one that reaches them."""
        rounded = self.looked_up(self.nearest(given))
        pull, commit = (given.detach() - rounded).square().mean(), (given - rounded.detach()).square().mean()
        return Latent(straight_through(given, rounded), pull, commit)


class VectorQuantizer(torch.nn.Module):
    """Vector quantization (van den Oord et al., arXiv 1711.00937): each of `count` vectors takes the nearest of one codebook."""

    def __init__(self, count: int, size: int, dim: int) -> None:
        super().__init__()
        self.sizes = (size,) * count
        self.inputs = self.outputs = count * dim
        bound = (3 / dim) ** 0.5
        self.codebook = torch.nn.Parameter(torch.empty(size, dim).uniform_(-bound, bound))

    def nearest(self, given: torch.Tensor) -> torch.Tensor:
        """(n, count) int64: places of the nearest vectors."""
        split = given.unflatten(1, (len(self.sizes), -1))
        return torch.cdist(split.flatten(0, 1), self.codebook.detach()).argmin(-1).view(len(given), -1)

    def looked_up(self, codes: torch.Tensor) -> torch.Tensor:
        """(n, count · dim): the vectors at (n, count) places, one after the other."""
        return torch.nn.functional.embedding(codes, self.codebook).flatten(1)

    def forward(self, given: torch.Tensor) -> Latent:
        rounded = self.looked_up(self.nearest(given))
        pull, commit = (given.detach() - rounded).square().mean(), (given - rounded.detach()).square().mean()
        return Latent(straight_through(given, rounded), pull, commit)


class Identity(torch.nn.Module):
    """The latents of an autoencoder as they are."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.inputs = self.outputs = count

    def mean(self, given: torch.Tensor) -> torch.Tensor:
        """(n, count) of what the encoder puts out."""
        return given

    def forward(self, given: torch.Tensor) -> Latent:
        return Latent(given)


class Gaussian(torch.nn.Module):
    """A diagonal Gaussian beside the standard one (Kingma and Welling, arXiv 1312.6114); means and log-variances come in."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.inputs, self.outputs = 2 * count, count
        self.draw: torch.Generator | None = None

    def mean(self, given: torch.Tensor) -> torch.Tensor:
        """(n, count): the means."""
        return given[:, : self.outputs]

    def forward(self, given: torch.Tensor) -> Latent:
        """A sample in training, drawn from `draw`; the means in evaluation."""
        mean, log_variance = given.chunk(2, dim=1)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        if not self.training:
            return Latent(mean, kl=kl)
        noise = torch.randn(mean.shape, generator=self.draw).to(mean)
        return Latent(mean + noise * (0.5 * log_variance).exp(), kl=kl)
