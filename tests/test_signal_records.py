"""Records of signals as they lie on disk: PTB-XL in WFDB format by its published folds, and files that are damaged."""

import numpy as np
import pandas as pd
import pytest
import wfdb
from test_signals import Q, beats

from nandlib.errors import DataError
from nandlib.signals.records import read_ecg5000, read_ptbxl


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
    for k, signal in enumerate(beats(24, leads=2)):
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
