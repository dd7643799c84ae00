"""The start of an autoencoder of vectors with linear networks: principal components, each with its own best scalars.

Principal components lose least of all linear maps to as many numbers (Pearson, "On lines and planes of closest fit to systems of
points in space", 1901). The scalars of a latent are the centroids of k-means of its component (Lloyd, "Least squares
quantization in PCM", 1982). Deeper networks that start at random need far more vectors to lose as little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from zoo.data.split import draw_positions
from zoo.families.latent_quantized import quantizers

if TYPE_CHECKING:
    from sklearn.decomposition import PCA

MAX_ROWS = 20_000  # vectors that components and scalars are fitted to
MAX_EXACT = 1024  # components, or vectors, of an exact decomposition
ROUNDS = 100  # of k-means
LARGEST_VALUE = 0.5  # of a scalar, as in `quantizers.ScalarQuantizer`


def initialise(module: torch.nn.ModuleDict, vectors: np.ndarray) -> None:
    """Set the linear networks of `module` in place, from standardised vectors (n, d) float32.

    Latents beyond the number of components, which is at most n - 1 and d, stay as they are.
    """
    if len(vectors) > MAX_ROWS:
        vectors = vectors[draw_positions(len(vectors), MAX_ROWS)]
    encoder, decoder = (_find_layer(module[name]) for name in ("encoder", "decoder"))
    count = min(encoder.out_features, len(vectors) - 1, vectors.shape[1])
    if count < 1:
        return
    components = fit_components(vectors, count)
    projected = components.transform(vectors)
    bottleneck: Any = module["latent"]
    is_quantized = isinstance(bottleneck, quantizers.ScalarQuantizer)
    sizes = bottleneck.sizes[:count] if is_quantized else (2,) * count
    scalars = [fit_scalars(column, size) for column, size in zip(projected.T, sizes, strict=True)]
    scale = LARGEST_VALUE / max(float(np.abs(np.concatenate(scalars)).max()), 1e-12)
    axes = torch.from_numpy(np.ascontiguousarray(components.components_, dtype=np.float32))
    with torch.no_grad():
        encoder.weight[:count] = axes * scale
        encoder.bias[:count] = -scale * axes @ torch.from_numpy(components.mean_.astype(np.float32))
        decoder.weight[:, :count] = axes.T / scale
        decoder.weight[:, count:] = 0
        decoder.bias.copy_(torch.from_numpy(components.mean_))
        for values, fitted in zip(bottleneck.values if is_quantized else (), scalars, strict=False):
            values.copy_(torch.from_numpy(scale * fitted))


def fit_components(vectors: np.ndarray, count: int) -> PCA:
    """Fit principal components to vectors (n, d): exactly, or if they have more than MAX_EXACT components, nearly."""
    from sklearn.decomposition import PCA  # importing it takes a second, which encoding does without

    solver = "full" if min(vectors.shape) <= MAX_EXACT else "randomized"
    return PCA(count, svd_solver=solver, random_state=0).fit(vectors)


def _find_layer(network: torch.nn.Module) -> torch.nn.Linear:
    (layer,) = (part for part in network.modules() if isinstance(part, torch.nn.Linear))
    return layer


def fit_scalars(values: np.ndarray, size: int) -> np.ndarray:
    """Fit `size` ascending scalars to values (n,). If fewer values differ, all are scalars, beside evenly spaced ones."""
    from sklearn.cluster import KMeans

    distinct = np.unique(values)
    if len(distinct) <= size:
        others = np.linspace(distinct[0], distinct[-1], size - len(distinct))
        return np.sort(np.concatenate([distinct, others]))
    start = np.quantile(values, (np.arange(size) + 0.5) / size)[:, None]
    centroids = KMeans(size, init=start, n_init=1, max_iter=ROUNDS).fit(values[:, None]).cluster_centers_
    fitted: np.ndarray = np.sort(centroids.ravel())
    return fitted
