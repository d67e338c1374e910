"""Training of the embedded model: labels of cells, text bank, and heads that learn and are reproducible."""

from contextlib import nullcontext
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nandlib.data.drawn import auxiliary
from nandlib.errors import ModelError
from nandlib.heard import phrases
from nandlib.models.mini import CHANNELS, GRID, STAGE_WIDTHS, ImageTower, TextTower
from nandlib.training import heads
from nandlib.training.heads import N_FAMILIES, PatchSet, cell_labels, collect_patches, text_bank, train_heads


def test_cells_take_the_majority_ignore_the_unclear_and_else_are_normal():
    labels = np.full((GRID * 8, GRID * 8), auxiliary.NORMAL)
    labels[0:8, 0:8] = 3
    labels[0:4, 8:16] = 5  # half of cell 1
    labels[0:2, 8:16] = 2
    labels[0, 16:24] = 4  # an eighth of cell 2
    cells = cell_labels(labels)
    assert cells.shape == (GRID * GRID,)
    assert cells[:4].tolist() == [3, 2, -1, N_FAMILIES]
    labels[2:4, 8:16] = labels[4:6, 8:16] = 5
    assert cell_labels(labels)[1] == 5


def test_text_bank_names_every_family_in_the_studys_templates():
    bank = text_bank()
    assert set(bank) == {*auxiliary.FAMILIES, "normal", "abnormal"}
    for name in auxiliary.FAMILIES:
        assert all(any(phrase in sentence for sentence in bank[name]) for phrase in phrases()[name]["train"])
    assert not any("carpet" in sentence for sentences in bank.values() for sentence in sentences)


def synthetic_patches(seed: int = 0) -> PatchSet:
    """Two families and normal, each with a direction of its own in all layers."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(3, CHANNELS, generator=generator) * 2
    labels = torch.arange(3).repeat_interleave(300)
    channels = directions[labels] + torch.randn(900, CHANNELS, generator=generator)
    labels[labels == 2] = N_FAMILIES
    return PatchSet(channels.half(), labels, torch.zeros(sum(STAGE_WIDTHS)), torch.ones(sum(STAGE_WIDTHS)))


@pytest.fixture(scope="module")
def few_texts():
    """A tenth of them, encoded once."""
    tower, some = TextTower(), {name: sentences[::10] for name, sentences in text_bank().items()}
    encode = cache(lambda sentences: TextTower.__call__(tower, sentences))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nandlib.training.heads.text_bank", lambda _drawing: some)
        patch.setattr("nandlib.training.heads.TextTower", lambda: lambda sentences: encode(tuple(sentences)))
        yield


@pytest.fixture(scope="module")
def trained(few_texts):
    """Twice the same."""
    return [train_heads(synthetic_patches(), seed=0, steps=30, batch_size=64, progress=False) for _ in range(2)]


def test_a_training_that_diverges_gives_no_heads(few_texts):
    with pytest.raises(ModelError, match=r"rates up to 1e\+30: .* diverged"):
        train_heads(synthetic_patches(), steps=6, batch_size=16, max_lr=1e30, progress=False)


def test_training_is_reproducible(trained):
    one, two = (heads.state_dict() for heads in trained)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_heads_learn_to_find_what_a_text_says(trained):
    heads, patches = trained[0], synthetic_patches()
    texts = heads.map_text(TextTower()(["a photo of a scratch", "a photo of a crack", "a photo of a flawless panel"]))
    names = list(auxiliary.FAMILIES)[:2]
    assert names == ["scratch", "crack"]
    with torch.no_grad():
        similarity = heads.project(2, patches.channels.float()) @ texts.T
    own = torch.where(patches.labels == N_FAMILIES, 2, patches.labels)
    assert (similarity.argmax(1) == own).float().mean() > 0.95


def test_collected_patches_are_reproducible_and_labelled(monkeypatch):
    """However the work is shared: among two processes, or all of it here."""
    one = collect_patches(3, 4, progress=False)
    monkeypatch.setattr(heads, "_tower", ImageTower())
    monkeypatch.setattr(heads, "ProcessPoolExecutor", lambda *_: nullcontext(SimpleNamespace(map=map)))
    two = collect_patches(3, 4, progress=False)
    assert torch.equal(one.channels, two.channels)
    assert torch.equal(one.labels, two.labels)
    assert one.channels.shape == (len(one.labels), CHANNELS)
    assert one.channels.dtype == torch.float16
    assert set(one.labels.tolist()) <= set(range(N_FAMILIES + 1))
    assert (one.stage_std > 0).all()
    index = torch.nonzero(one.labels == N_FAMILIES).flatten()
    assert len(index) <= 4 * 70
