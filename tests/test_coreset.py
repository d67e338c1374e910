"""Coresets: a choice over shards against the choice among all."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from nandlib.detectors.coreset import WITHIN, coreset, coreset_of_shards
from nandlib.errors import DataError


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


def test_a_small_last_shard_gives_one():
    points = torch.randn(2020, 4, generator=torch.Generator().manual_seed(1))
    kept, numbers = coreset_of_shards(_shards(points, 100), 0.02, 0)
    assert len(kept) == len(numbers.unique()) == 40
    with pytest.raises(DataError, match=r"a share of 0\.0002 of 2020 patches is none"):
        coreset_of_shards(_shards(points, 100), 0.0002, 0)


def test_what_others_say_meanwhile_is_heard(clouds):
    before, bank = sys.stderr, clouds.repeat(4, 1)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda seed: coreset(bank, 0.3, seed), [0, 0, 1, 1]))
    assert sys.stderr is before and torch.equal(found[0], found[1]) and torch.equal(found[2], found[3])


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
