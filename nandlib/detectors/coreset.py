"""Coresets: which of many patch descriptors a memory keeps, chosen greedily, at once, in shards, or on from a memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from anomalib.models.components import SparseRandomProjection
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
        if not _exact():  # then products have fewer digits than `slack` allows for
            return torch.arange(len(self.features), device=self.features.device)
        both, reach = self.squares + self.squares[place].flatten(), self.distances.square()
        with torch.autocast(self.features.device.type, enabled=False):
            squared = torch.addmv(both, self.features, center, alpha=-2)
        slack = max(self.slack, 8 * torch.finfo(both.dtype).eps)
        return (~(squared > reach + slack * (both + reach))).nonzero()[:, 0]  # also what has overflown, or is no number


def _exact() -> bool:
    """Whether products of float32 are exact to its rounding."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # it was set in the newer way, which this does not tell
        return False


def _greedy(features: Tensor, count: int) -> Tensor:
    """Positions ``(count,)`` of the features that anomalib's `KCenterGreedy` chooses: the first by lot, then always the farthest."""
    nearest = _Nearest(features)
    chosen = [torch.randint(high=len(features), size=(1,), device=features.device).squeeze()]
    while len(chosen) < count:
        nearest.choose(chosen[-1])
        chosen.append(nearest.distances.argmax())
        nearest.distances[chosen[-1]] = 0
    return torch.stack(chosen).cpu()


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
    _refuse_none(ratio, len(bank))
    with own_randomness():
        torch.manual_seed(seed)
        if projected:
            state = np.random.RandomState(seed)  # with a number all rows of the projection would be drawn alike
            projection = SparseRandomProjection(eps=0.9, random_state=state)  # type: ignore[arg-type]
            projection.fit(bank)
            bank = projection.transform(bank)
        return _greedy(bank, int(ratio * len(bank)))


def _refuse_none(ratio: float, count: int) -> None:
    if int(ratio * count) < 1:
        raise DataError(f"a share of {ratio:g} of {count} patches is none: raise coreset_ratio, or max_patches, or give more normal images")


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
        share = max(WITHIN * ratio, 1.5 / len(descriptors))  # one at least, of a small shard
        chosen = coreset(descriptors, min(1.0, share), seed, projected)
        kept.append((descriptors[chosen], numbers[chosen.cpu()]))
        total += len(descriptors)
    _refuse_none(ratio, total)
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
