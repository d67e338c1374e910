"""Coresets: a choice over shards against the choice among all."""

import pytest
import torch
from torch import Tensor

from nandlib.detectors.coreset import WITHIN, coreset, coreset_of_shards


@pytest.fixture
def clouds() -> Tensor:
    """Twelve well separated clouds of 50 points, one after the other."""
    generator = torch.Generator().manual_seed(0)
    centres = 20 * torch.eye(12)
    return (centres[:, None] + torch.randn(12, 50, 12, generator=generator)).flatten(0, 1)


def _shards(points: Tensor, size: int):
    numbers = torch.arange(len(points))
    return zip(points.split(size), numbers.split(size), strict=True)


def _radius(points: Tensor, kept: Tensor) -> float:
    return float(torch.cdist(points, kept).min(1).values.max())


@pytest.mark.parametrize("size", [50, 70, 600])
def test_a_choice_over_shards_covers_what_the_choice_among_all_covers(clouds, size):
    kept, numbers = coreset_of_shards(_shards(clouds, size), 0.02, seed=1)
    exact = clouds[coreset(clouds, 0.02, seed=1)]
    assert kept.shape == exact.shape == (12, 12)
    assert torch.equal(kept, clouds[numbers]) and len(set(numbers.tolist())) == 12
    assert len(set((numbers // 50).tolist())) == 12, "a cloud has no descriptor of its own"
    assert _radius(clouds, kept) <= 2 * _radius(clouds, exact)


def test_shards_are_read_one_at_a_time(clouds):
    alive = []

    def watched():
        for descriptors, numbers in _shards(clouds, 100):
            alive.append(len(alive))
            yield descriptors.clone(), numbers

    seen = []
    original = iter(watched())
    coreset_of_shards((seen.append(len(alive)) or shard for shard in original), 0.02, seed=0)
    assert seen == [1, 2, 3, 4, 5, 6]


def test_a_shard_gives_more_than_is_kept(clouds):
    """Else a shard with two thirds of the clouds could not give them all."""
    uneven = [(clouds[:400], torch.arange(400)), (clouds[400:], torch.arange(400, 600))]
    _, numbers = coreset_of_shards(uneven, 0.02, seed=1)
    assert WITHIN * int(0.02 * 600) * 400 / 600 >= 8
    assert len(set((numbers // 50).tolist())) == 12
