"""Signals: records are read and refused, detectors find what is not normal, examples go through the protocol of images."""

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from nandlib.data.images import evenly
from nandlib.detectors import training
from nandlib.detectors.training import Run
from nandlib.errors import DataError, PresetError
from nandlib.evaluation.protocol import auroc
from nandlib.evaluation.signal_selection import COLUMNS, best_signal_candidate, select_signals
from nandlib.method.config import ExampleConfig, PlusConfig
from nandlib.show.contest_charts import contest_figure
from nandlib.signals import shown
from nandlib.signals.autoencoder import MaskedAutoencoder
from nandlib.signals.autoencoder_network import MultiScaleAutoencoder, complementary, hidden_at_random, normalised, segments_of
from nandlib.signals.config import AutoencoderConfig, SignalStudy
from nandlib.signals.contest import SignalContest
from nandlib.signals.detector import normal_records
from nandlib.signals.made_up import TYPES, made_up
from nandlib.signals.nearest import NearestRecords
from nandlib.signals.records import Records, check_signals, read_ecg5000
from nandlib.signals.shown import ShownSignals, windows
from nandlib.stages.signals import write_signals
from nandlib.study.open_kind import is_kind, load_kind, open_kind

Q = 60
SMALL = AutoencoderConfig(segments=12, local=4, masks=4, width=16, layers=1, epochs=40, batch_size=16, rate=3e-3)


def beats(count, seed=0, leads=1):
    """Two waves whose height and place differ a little from beat to beat."""
    rng, at = np.random.default_rng(seed), np.arange(Q) / Q
    found = [
        [
            rng.uniform(0.9, 1.1) * np.exp(-(((at - rng.normal(0.2, 0.01)) / 0.03) ** 2))
            + 0.4 * np.exp(-(((at - rng.normal(0.7, 0.01)) / 0.08) ** 2))
            + 0.02 * rng.normal(size=Q)
            for _ in range(leads)
        ]
        for _ in range(count)
    ]
    return np.array(found, np.float32)


NORMALS = beats(60)
SPLIT = made_up(NORMALS, each=6)


@pytest.fixture(scope="module")
def nearest():
    return NearestRecords.fit(torch.from_numpy(SPLIT.train.signals), 3)


@pytest.fixture(scope="module")
def autoencoder():
    return MaskedAutoencoder.fit(torch.from_numpy(SPLIT.train.signals), SMALL)


def test_made_up_anomalies_are_what_they_say():
    assert len(SPLIT.test) == 12 + 6 * len(TYPES) and len(SPLIT.train) == 30
    known = {own.tobytes() for own in NORMALS}
    same = [own.tobytes() in known for own in SPLIT.test.signals]
    assert same == (SPLIT.test.groups == "good").tolist()
    assert all(own.tobytes() not in {x.tobytes() for x in SPLIT.train.signals} for own in SPLIT.test.signals), "none that is trained on"


def test_the_nearest_by_plain_steps(nearest):
    x = torch.from_numpy(SPLIT.test.signals)
    distance = ((x[:, None] - nearest.memory) ** 2).sum((2, 3))
    own = nearest.memory[distance.argsort(1)[:, :3]]
    raw = ((x[:, None] - own) ** 2).mean((1, 2))
    torch.testing.assert_close(nearest.maps(x), (raw - nearest.floor).clamp_min(0))
    first = nearest.memory[:4]
    others = torch.stack(
        [NearestRecords(torch.cat([nearest.memory[:k], nearest.memory[k + 1 :]]), 3)._raw(first[k : k + 1])[0] for k in range(4)]
    )
    torch.testing.assert_close(nearest._raw(nearest.memory, skip=1)[:4], others)
    far = NearestRecords(nearest.memory + 1e4, 3)  # as a recorder counts
    assert float((far._raw(x + 1e4) - raw).abs().max()) < 0.05 * float(raw.max())
    more = nearest.with_more(x[-1:])
    assert more.maps(x[-1:]).amax() < nearest.maps(x[-1:]).amax()


@pytest.mark.parametrize("name", ["nearest", "autoencoder"])
def test_detectors_find_what_is_not_normal(name, request):
    detector = request.getfixturevalue(name)
    maps = detector.maps(torch.from_numpy(SPLIT.test.signals))
    assert maps.shape == (len(SPLIT.test), Q) and maps.min() >= 0
    assert auroc(SPLIT.test.groups != "good", maps.mean(1)) > (95 if name == "nearest" else 75)


def test_masks_are_complementary_and_of_one_size():
    generator = torch.Generator().manual_seed(0)
    for ratio, parts in ((0.5, 2), (0.25, 4), (0.3, 4)):
        found = complementary(12, ratio, generator)
        assert len(found) == parts and (torch.stack(found).sum(0) == 1).all()
    hidden = hidden_at_random(50, 12, 0.25)
    assert (hidden.sum(1) == 3).all() and (hidden.float().mean(0) > 0).all()


def test_segments_are_normalised_each_by_itself():
    x = torch.randn(3, 2, 12) * 5 + 7
    cut = segments_of(x, 4)
    assert cut.shape == (3, 4, 6) and torch.equal(cut[1, 2], torch.cat([x[1, 0, 6:9], x[1, 1, 6:9]]))
    found = normalised(cut, 0.1)
    assert found.mean(-1).abs().max() < 1e-5 and torch.allclose(found.std(-1), torch.ones(3, 4), atol=1e-4)
    assert normalised(torch.full((1, 1, 6), 3.0), 0.1).abs().max() == 0


def test_what_is_hidden_is_not_seen_and_both_sets_count():
    torch.manual_seed(0)
    network = MultiScaleAutoencoder(5, 12, 4, 16, 1).eval()
    x, starts = torch.randn(2, 12, 5), torch.tensor([0, 8])
    hidden, local = hidden_at_random(2, 12, 0.5), hidden_at_random(2, 4, 0.5)
    whole, part = network(x, hidden, starts, local)
    assert whole.shape == (2, 12, 5) and part.shape == (2, 4, 5)
    other = x.clone()
    unseen = hidden.clone()  # hidden from the global set, and from the local one where that has it
    for n in range(2):
        for k in range(4):
            unseen[n, starts[n] + k] &= local[n, k]
    other[unseen] = 100.0
    torch.testing.assert_close(network(other, hidden, starts, local)[0], whole)
    squared, counts = network.errors(x, hidden, starts, local)
    expected = hidden.float()
    plain = (whole - x).square() * hidden[..., None]
    for n in range(2):
        for k in range(4):
            place = int(starts[n]) + k
            expected[n, place] += float(local[n, k])
            plain[n, place] += (part[n, k] - x[n, place]).square() * local[n, k]
    torch.testing.assert_close(counts, expected)
    torch.testing.assert_close(squared, plain)


def test_one_seed_gives_the_same_network(autoencoder):
    again = MaskedAutoencoder.fit(torch.from_numpy(SPLIT.train.signals), SMALL)
    assert all(
        torch.equal(a, b) for a, b in zip(again.network.state_dict().values(), autoencoder.network.state_dict().values(), strict=True)
    )
    other = MaskedAutoencoder.fit(torch.from_numpy(SPLIT.train.signals), SMALL.model_copy(update={"seed": 1, "epochs": 1}))
    assert other.floor != autoencoder.floor
    network = autoencoder.network  # four masks of six seen segments of twelve and two of four; sixteen in the block
    encoder, block = (8 * 16**2 + 2 * 2 * 16 * 32) * 8 + 4 * 8**2 * 16, (8 * 16**2 + 2 * 2 * 16 * 32) * 16 + 4 * 16**2 * 16
    ends = 2 * 16 * network.embed.in_features * 16 * 2
    assert autoencoder.flops() == SMALL.masks * (encoder + block + ends)
    with pytest.raises(DataError, match="60 samples cannot be cut into 7 segments"):
        MaskedAutoencoder.fit(torch.from_numpy(SPLIT.train.signals), SMALL.model_copy(update={"segments": 7}))


def test_a_training_that_was_stopped_goes_on(tmp_path, monkeypatch, autoencoder):
    def stops(*_, **__):
        raise KeyboardInterrupt

    records, epochs = torch.from_numpy(SPLIT.train.signals), []
    path, keep = tmp_path / "state.pt", training._keep
    monkeypatch.setattr(training, "_keep", lambda state, place: (keep(state, place), epochs.append(1), len(epochs) == 2 and stops()))
    with pytest.raises(KeyboardInterrupt):
        MaskedAutoencoder.fit(records, SMALL, Run(resume=path))
    monkeypatch.setattr(training, "_keep", keep)
    resumed = MaskedAutoencoder.fit(records, SMALL, Run(resume=path)).network.state_dict()
    assert all(torch.equal(own, resumed[name]) for name, own in autoencoder.network.state_dict().items())
    state = torch.load(path, weights_only=True)
    torch.save({name: own for name, own in state.items() if name != "network"}, path)
    with pytest.raises(DataError, match=r"state.pt is of another version of .* \(KeyError\): remove it"):
        MaskedAutoencoder.fit(records, SMALL, Run(resume=path))


def test_what_joins_the_memory_is_such_as_is_there(nearest):
    gaps = nearest.memory[:1].clone()
    gaps[0, 0, 3] = float("nan")
    for wrong in (gaps, nearest.memory[:1, :, :-1]):
        with pytest.raises(DataError):
            nearest.with_more(wrong)
    leads = torch.cat([1000 * nearest.memory, nearest.memory, torch.zeros_like(nearest.memory)], 1)
    with pytest.raises(DataError, match=r"lead 0 deviates .*, lead 1 "):
        normal_records(leads)


def test_of_long_records_few_windows_are_cut(monkeypatch):
    signals = torch.from_numpy(beats(5, leads=2))
    every = windows(signals, 17).flatten(0, 1)
    torch.testing.assert_close(shown._some_windows(signals, 17), every)
    monkeypatch.setattr(shown, "MOST", 40)
    torch.testing.assert_close(shown._some_windows(signals, 17), every[evenly(len(every), 40)])


def test_an_example_damps_what_looks_alike(nearest):
    x = torch.from_numpy(SPLIT.test.signals)
    assert torch.equal(
        windows(torch.arange(6.0)[None, None], 3)[0], torch.tensor([[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [4, 5, 5.0]])
    )
    one = SignalContest(SPLIT, nearest, 17, PlusConfig(peak_distance=0.5), ExampleConfig())
    spiked, raised = (np.flatnonzero(SPLIT.test.groups == name) for name in ("spiked", "raised"))
    before, after = one.scores("nothing", "", ()), one.scores("examples", "spiked", spiked[:2].tolist())
    kept = after / before
    assert kept[spiked[2:]].mean() < 0.5 < 0.9 < kept[raised].mean()
    assert one.methods == ("nothing", "examples", "bank") and one.added == list(TYPES)
    assert (after <= before + 1e-6).all()
    shown = ShownSignals(torch.zeros(1, Q), x[:1], torch.from_numpy(SPLIT.train.signals), 17)
    with pytest.raises(DataError, match="record 0 shows nothing: its map is 0 everywhere"):
        shown.suppression([0])


def test_the_selection_follows_its_rule(monkeypatch):
    rows = [(20, 0.5, 10, 20, 15.0, False), (40, 0.5, 50, 60, 55.0, False), (20, 0.1, 50, 59, 54.5, False), (80, 0.1, 50, 60, 55.5, False)]
    assert best_signal_candidate(pd.DataFrame(rows, columns=COLUMNS)) == 2
    for name, value in {"WINDOWS": (0.1, 0.4), "PEAK_DISTANCES": (0.5,), "KS": (1,), "DRAWS": 2}.items():
        monkeypatch.setattr(f"nandlib.evaluation.signal_selection.{name}", value)
    monkeypatch.setattr("nandlib.evaluation.signal_selection.COLUMNS", [c for c in COLUMNS if c != "share_4"])
    table = select_signals(NORMALS, 3, progress=False)
    assert table["window"].tolist() == [6, 24] and table["chosen"].sum() == 1 and (table["share"] == table["share_1"]).all()


@pytest.fixture
def archive(tmp_path):
    """A file like ECG5000's."""
    split, path = made_up(beats(80, seed=3), each=6, seed=1), tmp_path / "data/ecg.npz"
    path.parent.mkdir()
    types = {"good": 1, "raised": 2, "inverted": 3, "early": 4, "spiked": 5, "flattened": 5}
    numbers = np.array([types[name] for name in split.test.groups] + [1] * 20)
    typed = np.concatenate([split.test.signals[:, 0], beats(20, seed=9)[:, 0]])
    arrays = {"train_normal": split.train.signals[:, 0], "test": split.test.signals[:, 0], "test_abnormal": split.test.groups != "good"}
    np.savez(path, **arrays, typed=typed, typed_class=numbers)
    return path


def test_ecg5000_is_read_in_two_parts_that_do_not_meet(archive):
    untyped, typed = (read_ecg5000(archive, typed=known) for known in (False, True))
    assert set(untyped.test.groups) == {"good", "abnormal"} and untyped.train.signals.shape[1:] == (1, Q)
    assert set(typed.train.groups) == {"good"} and len(typed.train) == round(0.6 * 32)
    assert sorted(set(typed.test.groups)) == ["good", "premature_ventricular", "r_on_t", "supraventricular", "unclassified"]
    assert len(typed.train) + len(typed.test) == 62
    assert not np.array_equal(read_ecg5000(archive, typed=True, seed=1).train.signals, typed.train.signals)
    with pytest.raises(DataError, match=r"none\.npz is missing: see data/README"):
        read_ecg5000(archive.with_name("none.npz"), typed=True)
    with np.load(archive) as file:
        arrays = dict(file)
    np.savez(archive, **arrays | {"typed_class": np.where(np.arange(len(arrays["typed_class"])) == 3, 0, arrays["typed_class"])})
    with pytest.raises(DataError, match=r"typed_class of beat 3 is 0, which is no type: 1 to 5 are"):
        read_ecg5000(archive, typed=True)
    for name, value, message in (
        ("test_abnormal", [0.0, 1.0, np.nan], "test_abnormal of beat 2 is nan: 0 or 1"),
        ("test_abnormal", [[0], [1]], r"the array 'test_abnormal' is \(2, 1\)"),
        ("test", np.ones((2, 3, 4)), r"the array 'test' is \(2, 3, 4\)"),
    ):
        np.savez(archive, **arrays | {name: np.array(value)})
        with pytest.raises(DataError, match=message):
            read_ecg5000(archive, typed=False)
    np.savez(archive, typed=np.zeros((2, 3)))
    with pytest.raises(DataError, match="lacks the array 'typed_class'"):
        read_ecg5000(archive, typed=True)


def test_what_cannot_be_used_is_refused(nearest, autoencoder):
    good = beats(3)
    assert check_signals(good[:, 0]).shape == (3, 1, Q)
    for value, message in (
        (np.zeros((0, 1, 5)), "expected .records, leads, samples., got"),
        (np.where(np.arange(Q) == 4, np.nan, good), "record 0 has gaps"),
        (np.concatenate([good, np.full((1, 1, Q), 2.0)]), "record 3 is constant"),
    ):
        with pytest.raises(DataError, match=message):
            check_signals(value)
    for detector in (nearest, autoencoder):
        with pytest.raises(DataError, match=r"records of 1 x 59 \(leads x samples\), where 1 x 60 are expected"):
            detector.maps(torch.from_numpy(good[..., :-1]))
        with pytest.raises(DataError, match=r"records of 2 x 60 \(leads x samples\), where 1 x 60 are expected"):
            detector.maps(torch.from_numpy(beats(3, leads=2)))
        gaps = torch.from_numpy(good.copy())
        gaps[1, 0, 5] = torch.nan
        with pytest.raises(DataError, match="record 1 has gaps"):
            detector.maps(gaps)
        with pytest.raises(DataError, match="record 1 has gaps"):
            NearestRecords.fit(gaps, 1) if detector is nearest else MaskedAutoencoder.fit(gaps, SMALL)
    with pytest.raises(DataError, match="no normal records"):
        MaskedAutoencoder.fit(torch.empty(0, 1, Q), SMALL)
    with pytest.raises(ValidationError, match="multiple of 4"):
        AutoencoderConfig(width=10)
    with pytest.raises(DataError, match="one group each"):
        Records(good, np.array(["good"]))


@pytest.fixture
def study(archive):
    root = archive.parents[1]
    (root / "studies/kinds").mkdir(parents=True)
    settings = SMALL.model_copy(update={"epochs": 2}).model_dump_json()
    text = "kind: signals\nname: toy\ntitle: Toy beats\ndata: {layout: ecg5000, root: data/ecg.npz}\nwindow: 17\ndraws: 2\n"
    (root / "studies/kinds/toy.yaml").write_text(text + f"autoencoder: {settings}\n")
    return open_kind("toy", root, SignalStudy)


def test_a_whole_study(study):
    write_signals(study, progress=False)
    records, summary = study.table("records"), study.table("summary")
    assert records["part"].unique().tolist() == ["untyped", "typed"] and len(records) == 2 * 2 * 2
    plain = records.query("detector == 'nearest_records' and part == 'typed' and score == 'maximum'")["auroc"].item()
    split = read_ecg5000(study.root / "data/ecg.npz", typed=True)
    maps = NearestRecords.fit(torch.from_numpy(split.train.signals), 3).maps(torch.from_numpy(split.test.signals))
    assert plain == auroc(split.test.groups != "good", maps.amax(1))
    assert set(summary["method"]) == {"nothing", "examples", "bank"} and set(study.table("kshot")["draw"]) == {0, 1}
    first = {path.name: path.read_bytes() for path in study.figures.iterdir()}
    write_signals(study, progress=False)
    assert {path.name: path.read_bytes() for path in study.figures.iterdir()} == first
    assert contest_figure(summary, study.table("intervals"), "beats").axes[0].lines
    with pytest.raises(DataError, match=r"selection\.csv is missing"):
        study.table("selection")


def test_presets_of_signals(study):
    root = study.root
    assert is_kind("toy", root) and not is_kind("mini", root)
    with pytest.raises(PresetError, match=r"toi\.yaml is missing: did you mean 'toy'"):
        open_kind("toi", root, SignalStudy)
    path = root / "studies/kinds/bad.yaml"
    settings = "autoencoder: {segments: 4, local: 5}\nwindow: 1\n"
    path.write_text("kind: signals\nname: bad\ntitle: x\ndata: {layout: ecg5000, root: x}\n" + settings)
    with pytest.raises(PresetError, match=r"key 'autoencoder': .*local: 5 segments of 4(.|\n)*key 'window'"):
        load_kind("bad", root)


def test_something_is_always_hidden():
    assert (hidden_at_random(20, 4, 0.1).sum(1) == 1).all()
    assert (hidden_at_random(20, 5, 0.5).sum(1) == 2).all() and (hidden_at_random(20, 7, 0.5).sum(1) == 4).all()
