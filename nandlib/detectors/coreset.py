"""Coresets: which of many patch descriptors a memory keeps, chosen greedily, at once, in shards, or on from a memory."""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import redirect_stderr

import numpy as np
import torch
from anomalib.models.components import KCenterGreedy, SparseRandomProjection
from torch import Tensor

from nandlib.errors import DataError
from nandlib.models.base import own_randomness

WITHIN = 2  # times the share that is kept at last: what a shard gives to the choice across shards


class _Nearest:
    """How far features are from the nearest of those that were chosen: bit for bit as if all distances to each were computed.

    A new choice changes the few that lie nearer to it than to all others. Which these are, ``|x|² - 2 x·c + |c|²`` tells up to rounding, in
    one pass over the features; the norm of ``x - c`` is taken of these alone, without a temporary copy of all features (whose room glibc
    cannot reuse once a small tensor lies behind it).

    Args:
        features: ``(n, C)``.
        distances: ``(n,)`` to what was chosen before, changed in place; none was if not given.
    """

    rows = 4096  # of the features at a time
    slack = 1e-5  # of |x|² + |c|²: ten times the rounding of products in float32, so that no feature is missed
    fewest = 64  # rows at a time: a sum over a row alone may be parted among threads, and then rounded otherwise

    def __init__(self, features: Tensor, distances: Tensor | None = None) -> None:
        self.features = features
        self.distances = features.new_full((len(features),), torch.inf) if distances is None else distances
        self.squares = torch.cat([block.square().sum(1) for block in features.split(self.rows)])

    def choose(self, place: int | Tensor) -> None:
        """One more, by its position."""
        center = self.features[place].flatten()
        for places in self._nearer(place, center).split(self.rows):
            padded = torch.cat([places, places[:1].expand(self.fewest - len(places))]) if len(places) < self.fewest else places
            found = torch.linalg.norm(self.features[padded].sub_(center), ord=2, dim=1)[: len(places)]
            self.distances[places] = torch.minimum(self.distances[places], found)

    def _nearer(self, place: int | Tensor, center: Tensor) -> Tensor:
        """Positions of the features to which the new choice may be the nearest, or of which products cannot tell."""
        if torch.get_float32_matmul_precision() != "highest":  # then products have fewer digits than `slack` allows for
            return torch.arange(len(self.features), device=self.features.device)
        both, reach = self.squares + self.squares[place].flatten(), self.distances.square()
        with torch.autocast(self.features.device.type, enabled=False):
            squared = torch.addmv(both, self.features, center, alpha=-2)
        slack = max(self.slack, 8 * torch.finfo(both.dtype).eps)
        return (~(squared > reach + slack * (both + reach))).nonzero()[:, 0]  # also what has overflown, or is no number


class _KCenterGreedy(KCenterGreedy):
    """anomalib's sampler with the same choices, several times faster, and without a copy of all features for every one of them."""

    nearest: _Nearest

    def update_distances(self, cluster_center: int | Tensor | None) -> None:
        if self.min_distances is None:
            self.nearest = _Nearest(self.features)
            self.min_distances = self.nearest.distances[:, None]  # the same memory: what is chosen is set to 0 there
        assert cluster_center is not None  # anomalib's loop gives one
        self.nearest.choose(cluster_center)


def coreset(bank: Tensor, ratio: float, seed: int, projected: bool = False) -> Tensor:
    """Greedy k-centre subset of patch descriptors ``(n, C)``: the ``⌊ratio · n⌋`` indices of the chosen ones.

    Args:
        bank: Descriptors.
        ratio: Share that is kept.
        seed: Of the first choice and of the projection: anomalib draws it from numpy's global state.
        projected: Choose by distances after anomalib's sparse random projection to the Johnson-Lindenstrauss dimension (about
            300 for 400,000 descriptors): less exact, and faster where C is larger.

    Raises:
        DataError: If that is none.
    """
    if int(ratio * len(bank)) < 1:
        raise DataError(
            f"a share of {ratio:g} of {len(bank)} patches is none: raise coreset_ratio, or max_patches, or give more normal images"
        )
    with own_randomness(), redirect_stderr(io.StringIO()):  # its progress bar cannot be switched off
        torch.manual_seed(seed)
        if not projected:  # a third dimension makes it work on the descriptors as they are
            sampler = _KCenterGreedy(embedding=bank[:, None], sampling_ratio=ratio)
        else:
            sampler = _KCenterGreedy(embedding=bank, sampling_ratio=ratio)
            state = np.random.RandomState(seed)  # with a number all rows of the projection would be drawn alike
            sampler.model = SparseRandomProjection(eps=0.9, random_state=state)  # type: ignore[arg-type]
        return torch.as_tensor(sampler.select_coreset_idxs())


def coreset_of_shards(shards: Iterable[tuple[Tensor, Tensor]], ratio: float, seed: int, projected: bool = False) -> tuple[Tensor, Tensor]:
    """Greedy k-centre choice within shards, and then across what they gave: one shard's descriptors are held at a time.

    Every shard gives `WITHIN` times the share that is kept at last, so that what is alike in several shards can be dropped. A descriptor
    is at most as far from what is kept as the radii of both choices together (a composable coreset).

    Args:
        shards: Descriptors ``(n_i, C)``, and ``(n_i,)`` numbers that go with them.
        ratio, seed, projected: As in `coreset`.

    Returns:
        ``⌊ratio · Σ n_i⌋`` descriptors, and their numbers.
    """
    total, kept = 0, list[tuple[Tensor, Tensor]]()
    for descriptors, numbers in shards:
        chosen = coreset(descriptors, min(1.0, WITHIN * ratio), seed, projected)
        kept.append((descriptors[chosen], numbers[chosen.cpu()]))
        total += len(descriptors)
    descriptors, numbers = (torch.cat(parts) for parts in zip(*kept, strict=True))
    share = (int(ratio * total) + 0.5) / len(descriptors)  # of the candidates: so many, whatever rounding does
    chosen = coreset(descriptors, min(1.0, share), seed, projected)
    return descriptors[chosen], numbers[chosen.cpu()]


def continued(new: Tensor, distances: Tensor, ratio: float) -> list[int]:
    """Greedy k-centre choice that goes on from a memory: positions of ``⌊ratio · n⌋`` of ``(n, C)`` patches, one at least, the farthest
    first; fewer, if all others equal what is kept.

    What lies nearer to the memory than the last one chosen is never chosen: the choice is made among the farthest alone, of which there
    must be enough.

    Args:
        new: Patches.
        distances: ``(n,)`` of each to the memory.
        ratio: Share that is kept.
    """
    count, order = max(1, int(ratio * len(new))), distances.argsort(descending=True)
    among = 4 * count
    while True:
        kept = order[:among].sort().values
        chosen, last = _farthest(new[kept], distances[kept], count)
        if among >= len(new) or last > float(distances[order[among]]):
            return [int(place) for place in kept[chosen]]
        among *= 2


def _farthest(new: Tensor, distances: Tensor, count: int) -> tuple[list[int], float]:
    """Positions of so many patches, and how far the last of them was from all others and the memory."""
    nearest, chosen, last = _Nearest(new, distances.clone()), list[int](), float("inf")
    for _ in range(count):
        farthest = int(nearest.distances.argmax())
        last = float(nearest.distances[farthest])
        if chosen and not last:  # it is kept already, or its equal is
            break
        chosen.append(farthest)
        nearest.choose(farthest)
    return chosen, last
