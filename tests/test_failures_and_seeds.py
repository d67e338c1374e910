"""Reasons of failures, spread over seeds, held-out wordings: tables from numbers that a test sets."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from nandlib import heard
from nandlib.data.drawn.auxiliary import FAMILIES
from nandlib.errors import DataError
from nandlib.evaluation import wordings
from nandlib.evaluation.failures import COLUMNS, REASONS, failure_table, judged
from nandlib.evaluation.seeds import MEASURES, seed_table
from nandlib.models.mini import CHANNELS, STAGE_WIDTHS
from nandlib.training.heads import PatchSet


def test_every_reason_has_its_rule():
    removed = {"a": (10, 20), "b": (20, 5), "c": (50, 30), "d": (80, 10), "e": (5, 50)}
    deltas = {"a": -1.0, "b": -2.0, "c": -3.0, "d": -4.0, "e": 5.0}
    selectivity = [("x", "k", text, group, own if group == text else other) for text, (own, other) in removed.items() for group in removed]
    selectivity = pd.DataFrame(selectivity, columns=["detector", "class", "text", "group", "removed"])
    frame = pd.DataFrame([("x", "k", group, delta) for group, delta in deltas.items()], columns=["detector", "class", "group", "delta"])
    retrieval = pd.DataFrame({"detector": "x", "class": "k", "text": list(deltas), "retrieval_auroc": 60.0})
    table = failure_table(frame, selectivity, retrieval)
    assert table.columns.tolist() == COLUMNS
    assert table["group"].tolist() == ["d", "c", "b", "a"]  # worst first; e gains
    assert table["why"].tolist() == [REASONS[name] for name in ("residue", "spread", "weak", "others")]
    assert table.loc[3, ["removed_own", "removed_other"]].tolist() == [10, 20]
    assert failure_table(frame[frame["delta"] > 0], selectivity, retrieval).empty
    unseen = selectivity.assign(removed=selectivity["removed"].where(selectivity["group"] != "a"))  # A is 0 in all its masks
    assert failure_table(frame, unseen, retrieval)["group"].tolist() == ["d", "c", "b"]
    assert set(judged(unseen)["group"]) == set("bcde")


def test_spread_over_seeds():
    def study(shift, name=None, n_groups=3):
        rows = [
            {"kind": "path", "step": step, "detector": "d", "n_groups": n_groups, **{m: k + shift for m in MEASURES}}
            for k, step in enumerate("ab")
        ]
        return SimpleNamespace(name=name or f"seed {shift}", ablation=pd.DataFrame(rows))

    table = seed_table([study(0.0), study(1.0), study(5.0)]).set_index("step")
    assert table.loc["a", "delta"] == pytest.approx(2)
    assert table.loc["b", "gap_closed"] == pytest.approx(3)
    assert table.loc["b", "gap_closed_sd"] == pytest.approx(np.std([1, 2, 6], ddof=1))
    assert (table["n_seeds"] == 3).all()
    with pytest.raises(DataError, match="every study once"):
        seed_table([study(0.0), study(0.0)])
    with pytest.raises(DataError, match="boards is not seed 0.0 with another seed"):
        seed_table([study(0.0), study(1.0, "boards", 6)])


def test_no_phrase_trains_and_is_held_out():
    phrases = heard.phrases()
    every = [phrase for words in phrases.values() for kind in ("train", "held_out") for phrase in words[kind]]
    assert len(every) == len(set(every))
    assert set(phrases) == set(FAMILIES)
    assert all(len(words["held_out"]) >= 3 and len(words["train"]) >= 10 for words in phrases.values())


def test_wordings_rank_their_family(model, monkeypatch):
    """The untrained text map is near the identity: held-out words are nearer to their own family than chance."""
    names = ("thread", "print", "dust", "burn")
    phrases = heard.phrases()
    few = {name: {"train": phrases[name]["train"][:2], "held_out": phrases[name]["held_out"][:1]} for name in names}
    monkeypatch.setattr(heard, "phrases", lambda: few)
    monkeypatch.setattr(wordings, "FAMILIES", dict.fromkeys(names))
    labels = torch.arange(4).repeat_interleave(3)
    channels = torch.randn(12, CHANNELS, generator=torch.Generator().manual_seed(0)).half()
    patches = PatchSet(channels, labels, torch.zeros(sum(STAGE_WIDTHS)), torch.ones(sum(STAGE_WIDTHS)))
    table = wordings.wording_table(model, patches)
    assert len(table) == 12
    assert table["rank"].between(1, 4).all()
    assert ((table["rank"] == 1) == (table["nearest"] == table["family"])).all()
    assert (table["rank"] == 1).mean() > 0.5
    assert table["retrieval_auroc"].between(0, 100).all()


def test_wordings_by_plain_steps(model, monkeypatch):
    """Texts at chosen angles: a phrase that trained the model is no part of its own family's centre."""
    angles = {"loose": 0, "stray": 100, "thread": 40, "ink": 60, "stamp": 130, "logo": 70}  # degrees, in the first two directions
    few = {"thread": {"train": ["loose", "stray"], "held_out": ["thread"]}, "print": {"train": ["ink", "stamp"], "held_out": ["logo"]}}
    channels = torch.randn(12, CHANNELS, generator=torch.Generator().manual_seed(1)).half()
    patches = PatchSet(channels, torch.arange(2).repeat_interleave(6), torch.zeros(sum(STAGE_WIDTHS)), torch.ones(sum(STAGE_WIDTHS)))
    with torch.no_grad():
        tokens = sum(model.heads.project(layer, channels.float()) for layer in range(4)) / 4
        directions = torch.linalg.qr(tokens.T)[0].T[:2]  # in which the tokens differ

    def feature(phrase):
        angle = np.deg2rad(angles[phrase])
        return float(np.cos(angle)) * directions[0] + float(np.sin(angle)) * directions[1]

    monkeypatch.setattr(heard, "phrases", lambda: few)
    monkeypatch.setattr(wordings, "FAMILIES", dict.fromkeys(few))
    monkeypatch.setattr(wordings, "load_prompts", lambda _: SimpleNamespace(fill=list))
    monkeypatch.setattr(wordings, "text_feature", lambda _model, sentences, _prompts: feature(*sentences))
    found = wordings.wording_table(model, patches).set_index("phrase")
    # both centres at 50 and 95 degrees; without "loose" that of its family is at 100, without "stray" at 0, and so for "ink" and "stamp"
    nearest = {"loose": "print", "stray": "print", "thread": "thread", "ink": "thread", "stamp": "print", "logo": "thread"}
    assert found["nearest"].to_dict() == nearest
    assert found["rank"].to_dict() == {name: 1 + (found.loc[name, "family"] != own) for name, own in nearest.items()}
    for phrase in angles:
        own = patches.labels.numpy() == list(few).index(found.loc[phrase, "family"])
        score = (tokens @ feature(phrase)).numpy()
        assert found.loc[phrase, "retrieval_auroc"] == pytest.approx(100 * np.mean(score[own][:, None] > score[~own][None]))
    assert found["held_out"].to_dict() == {name: name in ("thread", "logo") for name in angles}
    assert found["retrieval_auroc"].nunique() > 3
