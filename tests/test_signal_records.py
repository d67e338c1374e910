"""Records of signals as they lie on disk: PTB-XL in WFDB format by its published folds, and files that are damaged."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
import wfdb
from safetensors.numpy import load_file
from test_signals import Q, beats
from tiny_project import ROOT

from nandlib.errors import DataError, PresetError
from nandlib.show.signal_pictures import groups_figure
from nandlib.signals.autoencoder import MaskedAutoencoder
from nandlib.signals.config import AutoencoderConfig, SignalStudy
from nandlib.signals.made_up import made_up
from nandlib.signals.nearest import NearestRecords
from nandlib.signals.records import Records, check_signals, read_ecg5000, read_ptbxl
from nandlib.stages.signals import write_signals
from nandlib.study.open_kind import OpenKind, load_kind


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[: len(content) // 2], "cannot be read"),
        (lambda content: content.replace(b"PK", b"KP", 1), "cannot be read"),
        (lambda content: content[:200] + bytes(50) + content[250:], "is damaged|cannot be read"),
    ],
)
def test_a_damaged_archive_is_named(tmp_path, damage, message):
    path = tmp_path / "ecg5000.npz"
    np.savez(path, typed=beats(9)[:, 0], typed_class=np.repeat([1, 2, 3], 3))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=rf"ecg5000\.npz ({message})"):
        read_ecg5000(path, typed=True)
    np.savez(path, typed=np.full((9, 4), "x"), typed_class=np.repeat([1, 2, 3], 3))
    with pytest.raises(DataError, match=r"ecg5000\.npz: typed: no numbers"):
        read_ecg5000(path, typed=True)


@pytest.fixture
def ptbxl(tmp_path):
    return written_as_ptbxl(tmp_path, 24)


def written_as_ptbxl(tmp_path, count):
    """Made-up records of two leads in PTB-XL's layout: the set itself is not at hand."""
    (tmp_path / "records100").mkdir()
    codes = [
        "{'NORM': 100.0}",
        "{'IMI': 80.0, 'SR': 0.0}",
        "{'IMI': 50.0, 'LVH': 50.0}",
        "{'SR': 0.0}",
        "{'NORM': 80.0, 'SR': 0.0}",
        "{'LVH': 100.0}",
    ]
    rows = []
    for k, signal in enumerate(beats(count, leads=2)):
        name, fold = f"records100/{k:05d}_lr", 10 if k >= 12 else 9 if k == 11 else 1 + k % 8
        wfdb.wrsamp(
            name.split("/")[1],
            fs=100,
            units=["mV"] * 2,
            sig_name=["I", "II"],
            p_signal=signal.T.astype(float),
            write_dir=str(tmp_path / "records100"),
        )
        rows.append((k, codes[k % 6], fold, name, name.replace("lr", "hr")))
    pd.DataFrame(rows, columns=["ecg_id", "scp_codes", "strat_fold", "filename_lr", "filename_hr"]).to_csv(
        tmp_path / "ptbxl_database.csv", index=False
    )
    statements = pd.DataFrame({"": ["NORM", "IMI", "LVH", "SR"], "diagnostic_class": ["NORM", "MI", "HYP", None]})
    statements.to_csv(tmp_path / "scp_statements.csv", index=False)
    return tmp_path


def test_a_record_that_cannot_be_used_is_named(ptbxl):
    """Of the training folds, each in its own way."""
    head, samples = ptbxl / "records100/00000_lr.hea", ptbxl / "records100/00000_lr.dat"
    kept = head.read_bytes(), samples.read_bytes()
    for path, content, message in (
        (head, b"", "not a record in WFDB format"),
        (head, b"00000_lr 0 100 60\n", "not a record in WFDB format"),
        (head, kept[0].replace(b".dat 24 ", b".dat 999 "), "not a record in WFDB format"),
        (head, kept[0].replace(b" 100 ", b" 500 ", 1), "has 500 samples a second, not 100"),
        (samples, b"\x00\x00\x80" * (len(kept[1]) // 3), "record 0 has gaps"),
        (samples, bytes(len(kept[1])), "record 0 is constant"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"00000_lr:? {message}"):
            read_ptbxl(ptbxl)
        head.write_bytes(kept[0])
        samples.write_bytes(kept[1])
    assert len(read_ptbxl(ptbxl).train) == 4
    table = pd.read_csv(ptbxl / "ptbxl_database.csv")
    table[:0].to_csv(ptbxl / "ptbxl_database.csv", index=False)
    with pytest.raises(DataError, match="no record of the wanted folds"):
        read_ptbxl(ptbxl)


def test_what_is_trained_on_and_what_is_tested_are_of_one_kind(ptbxl):
    """Records of the tested fold in another unit would all be anomalous."""
    for k, signal in enumerate(beats(12, leads=2)):
        folder = str(ptbxl / "records100")
        wfdb.wrsamp(
            f"{12 + k:05d}_lr", fs=100, units=["uV"] * 2, sig_name=["I", "II"], p_signal=1000 * signal.T.astype(float), write_dir=folder
        )
    with pytest.raises(DataError, match=r"has the leads I \(uV\), II \(uV\), the first record I \(mV\), II \(mV\)"):
        read_ptbxl(ptbxl)


def test_ptbxl_is_read_by_its_published_folds(ptbxl):
    split = read_ptbxl(ptbxl)
    assert set(split.train.groups) == {"good"} and len(split.train) == 4  # of folds 1 to 8: 0, 4, 6, 10
    assert split.test.groups.tolist() == ["good", "mi", "", "good", "hyp"] * 2  # without a diagnosis: left out
    assert split.test.signals.shape == (10, 2, Q)
    np.testing.assert_allclose(split.train.signals[0], beats(24, leads=2)[0], atol=1e-3)
    table = pd.read_csv(ptbxl / "ptbxl_database.csv")
    table.assign(scp_codes=[None, *table["scp_codes"][1:]]).to_csv(ptbxl / "ptbxl_database.csv", index=False)
    assert len(read_ptbxl(ptbxl).train) == 3, "no label, no diagnosis: left out"
    for codes, message in (("NORM", "scp_codes 'NORM' are not a mapping"), ("{1", "are not a mapping")):
        table.assign(scp_codes=codes).to_csv(ptbxl / "ptbxl_database.csv", index=False)
        with pytest.raises(DataError, match=message):
            read_ptbxl(ptbxl)
    table.drop(columns="scp_codes").to_csv(ptbxl / "ptbxl_database.csv", index=False)
    with pytest.raises(DataError, match=r"ptbxl_database\.csv has no column 'scp_codes'"):
        read_ptbxl(ptbxl)
    (ptbxl / "ptbxl_database.csv").write_bytes(b"\xff\x00")
    with pytest.raises(DataError, match=r"ptbxl_database\.csv cannot be read as a table"):
        read_ptbxl(ptbxl)
    table.to_csv(ptbxl / "ptbxl_database.csv", index=False)
    with pytest.raises(DataError, match="100 or 500 samples a second, not 250"):
        read_ptbxl(ptbxl, 250)
    header = ptbxl / "records100/00004_lr.hea"
    kept = header.read_text()
    header.write_text(kept.replace("mV", "uV"))
    with pytest.raises(DataError, match=r"00004_lr has the leads I \(uV\), II \(uV\), the first record I \(mV\), II \(mV\)"):
        read_ptbxl(ptbxl)
    header.write_text(kept)
    (ptbxl / "records100/00012_lr.dat").unlink()
    with pytest.raises(DataError, match="00012_lr: not a record in WFDB format"):
        read_ptbxl(ptbxl)
    (ptbxl / "scp_statements.csv").unlink()
    with pytest.raises(DataError, match=r"scp_statements\.csv is missing: PTB-XL's folder holds"):
        read_ptbxl(ptbxl)


def test_a_study_of_ptbxl_runs_to_its_pictures(tmp_path):
    written_as_ptbxl(tmp_path, 48)
    config = SignalStudy(
        kind="signals",
        name="own",
        title="t",
        data={"layout": "ptbxl", "root": "."},
        autoencoder={"segments": 10, "local": 2, "epochs": 2},
        nearest=1,
        window=10,
        draws=1,
    )
    study = OpenKind(tmp_path, config)
    write_signals(study, progress=False)
    assert load_file(study.data / "maps.safetensors")["signals"].shape[1] == 2
    assert set(study.table("types")["group"]) == {"mi", "hyp"}


def test_a_study_does_not_write_into_its_records(tmp_path):
    (tmp_path / "studies/kinds").mkdir(parents=True)
    text = (ROOT / "studies/kinds/ptbxl.yaml").read_text()
    path = tmp_path / "studies/kinds/ptbxl.yaml"
    path.write_text(text)
    assert load_kind("ptbxl", tmp_path).data.rate == 100
    path.write_text(text.replace("root: data/sets/ptbxl", "root: data/ptbxl"))
    with pytest.raises(PresetError, match="data.root 'data/ptbxl' is where the study itself writes"):
        load_kind("ptbxl", tmp_path)


@pytest.mark.parametrize("fit", [MaskedAutoencoder.fit, lambda normals: NearestRecords.fit(normals, 1)], ids=["autoencoder", "nearest"])
def test_detectors_say_what_they_cannot_take(fit):
    normals = torch.from_numpy(beats(12, leads=2))
    for given, message in (
        (normals[:, 0], "no normal records to train on: .*not "),
        (normals[:0], "no normal records to train on"),
        (torch.ones(4, 1, Q), "are constant"),
        (normals * torch.tensor([1.0, 1000.0])[:, None], "bring all leads to one unit"),
    ):
        with pytest.raises(DataError, match=message):
            fit(given)


def test_numbers_of_any_kind_and_no_records():
    normals, given = torch.from_numpy(beats(12)), torch.from_numpy(beats(3, seed=9))
    nearest = NearestRecords.fit(normals, 2)
    autoencoder = MaskedAutoencoder.fit(normals, AutoencoderConfig(segments=10, local=2, epochs=1))
    for detector in (nearest, autoencoder):
        torch.testing.assert_close(detector.maps(given.double()), detector.maps(given))
        assert detector.maps(given[:0]).shape == (0, Q)
    state = torch.get_rng_state()
    autoencoder.flops()
    assert torch.equal(state, torch.get_rng_state())


def test_what_numbers_cannot_be():
    for given, message in ((np.full((1, 1, 8), 1e39), "beyond those of float32"), (np.ones((1, 8)) * 1j, "no numbers")):
        with pytest.raises(DataError, match=message), warnings.catch_warnings():
            warnings.simplefilter("error")
            check_signals(given)
    with pytest.raises(DataError, match="groups must be text"):
        Records(beats(2), np.array([None, None]))
    with pytest.raises(ValueError, match="one must be seen"):
        AutoencoderConfig(mask_ratio=0.98)
    with pytest.raises(DataError, match="two or more"):
        made_up(beats(1))


def test_pictures_of_records_without_a_type():
    signals, maps = beats(6)[:, 0], {name: np.ones((6, Q)) for name in ("nearest_records", "mmae_ecg_style", "patchcore")}
    titles = [ax.get_title() for ax in groups_figure(signals, ["good", "good", "a", "a", "", ""], maps).axes]
    assert [title for title in titles if title] == ["a (2 beats)"]
    assert groups_figure(signals, ["good"] * 6, maps).axes[0].texts
    plt.close("all")
