"""Signals and scans of one's own: in other units, far from 0, of other files."""

import numpy as np
import pytest
import torch

from nandlib.errors import DataError
from nandlib.method.config import PlusConfig
from nandlib.signals.contest import SignalContest
from nandlib.signals.nearest import NearestRecords
from nandlib.signals.records import Records, Split, check_signals, read_ecg5000
from nandlib.signals.shown import ShownSignals
from nandlib.surfaces.clouds import as_cloud, read_cloud, write_cloud
from nandlib.surfaces.config import MemoryConfig
from nandlib.surfaces.contest import ScoredSurfaces, SurfaceContest
from nandlib.surfaces.memory import SurfaceMemory

TIME = np.linspace(0, 2 * np.pi, 60)
POINTS = np.random.default_rng(1).normal(size=(200, 3))
PLY = "ply\nformat ascii 1.0\nelement vertex {}\nproperty {} x\nproperty {} y\nproperty {} z\nend_header\n"


@pytest.fixture
def records():
    rng = np.random.default_rng(0)
    return np.sin(TIME + rng.uniform(0, 6, (40, 1, 1))) + 0.05 * rng.normal(size=(40, 1, 60))


def written(path, lines, head=""):
    path.write_text(head + "\n".join(lines))
    return path


def test_a_record_that_is_known_is_not_anomalous_whatever_its_offset(records):
    offsets = np.random.default_rng(2).choice([-3000.0, 3000.0], 40)[:, None, None]
    far = torch.from_numpy(records + offsets).float()
    detector = NearestRecords.fit(far, 1)
    assert float(detector._raw(far).max()) == 0
    torch.testing.assert_close(detector.maps(far + 0.1), torch.cat([detector.maps(own + 0.1) for own in far.split(1)]), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda x: x * 0.01 + 1e6, "float32 rounds what changes in it: take its offset off"),
        (lambda x: x + 1e8, "float32 rounds"),
        (lambda x: 0 * x + 1e8, "is constant"),
        (lambda x: x * 1e-13, "in a unit in which that is nearer to 1"),
        (lambda x: x * 1e19, "in a unit in which"),
        (lambda x: np.ma.masked_greater(x, 1), "has gaps"),
        (lambda x: x.astype("m8[s]"), "no numbers"),
    ],
)
def test_signals_that_would_be_rounded_or_misread(records, change, why):
    with pytest.raises(DataError, match=why):
        check_signals(change(records))
    assert check_signals((1e6 + 50 * records).round()).shape == records.shape  # whole numbers are held as they are


def test_records_of_any_numbers_are_float32(records):
    own = Records(records[:, :, ::-1], ["good"] * 40)
    assert own.signals.dtype == np.float32 and own.signals.flags.c_contiguous and own.groups.shape == (40,)
    with pytest.raises(DataError, match="one group each"):
        Records(records, np.array([["good"]] * 40))
    with pytest.raises(DataError, match="must be a tensor"):
        NearestRecords.fit(records, 1)


def test_beats_of_two_lengths_are_no_set(tmp_path, records):
    two = records[:, 0]
    np.savez(tmp_path / "e.npz", train_normal=two, test=two[:, :50], test_abnormal=np.zeros(40, int))
    with pytest.raises(DataError, match="beats of 60 and 50 samples"):
        read_ecg5000(str(tmp_path / "e.npz"), typed=False)
    with pytest.raises(DataError, match="train_share is a share between 0 and 1, not 2"):
        read_ecg5000(tmp_path / "e.npz", typed=True, train_share=2)


def test_what_is_shown_is_looked_at(records):
    normals = torch.from_numpy(records).float()
    maps = torch.ones(40, 60)
    with pytest.raises(DataError, match="records of 1 x 60 .* where 2 x 60 are expected"):
        ShownSignals(maps, normals, normals.expand(-1, 2, -1), 9, PlusConfig())
    with pytest.raises(DataError, match="a window of 0 samples"):
        ShownSignals(maps, normals, normals, 0)
    for wrong in (maps * torch.nan, maps[:, 1:]):
        with pytest.raises(DataError, match="a number for each sample is expected"):
            ShownSignals(wrong, normals, normals, 9)
    own = Records(records, ["good"] * 40)
    with pytest.raises(DataError, match="no method 'banc' of this detector: did you mean 'bank'"):
        SignalContest(Split(own, own), NearestRecords.fit(normals, 1), 9).final("banc", [1])


def test_methods_of_surfaces_and_what_is_no_surface():
    contest = SurfaceContest("part", ScoredSurfaces.__new__(ScoredSurfaces))
    for ask in (contest.final, lambda method, shown: contest.scores(method, "bump", shown)):
        with pytest.raises(DataError, match="no method 'banc' of surfaces: did you mean 'bank'"):
            ask("banc", [1])
        for method in ("bank", "examples"):
            with pytest.raises(DataError, match="nothing is shown"):
                contest.scores(method, "bump", [])
    for given in ([POINTS], as_cloud(POINTS)):
        with pytest.raises(DataError, match="surfaces are a list of clouds"):
            SurfaceMemory.fit(given, MemoryConfig())


@pytest.mark.parametrize(
    ("points", "why"),
    [
        ([["a", "b", "c"]] * 20, "no numbers"),
        (POINTS.astype(complex), "no numbers"),
        ((POINTS + 1e6).astype(np.float32), "float32 has rounded these coordinates coarsely: centre them before"),
        (POINTS * 1e20, "coordinates beyond 1e\\+15"),
    ],
)
def test_clouds_that_are_no_numbers_or_rounded(points, why):
    with pytest.raises(DataError, match=why):
        as_cloud(points)
    masked = np.ma.array(POINTS, mask=False)
    masked[:50] = np.ma.masked
    assert len(as_cloud(masked)) == 150 and len(as_cloud(POINTS.astype(np.float32))) == 200


def test_texts_of_other_programs(tmp_path):
    commas = (";".join(map("{:.6f}".format, point)).replace(".", ",") for point in POINTS)
    with pytest.raises(DataError, match="decimal commas"):
        read_cloud(written(tmp_path / "a.xyz", commas))
    cells = [f"{x:.6f}, {'' if number == 5 else f'{y:.6f}'}, {z:.6f},255,0,0" for number, (x, y, z) in enumerate(POINTS)]
    np.testing.assert_allclose(read_cloud(written(tmp_path / "b.xyz", cells, "\ufeff")).points, np.delete(POINTS, 5, 0), atol=1e-6)


def test_a_ply_that_is_cut_off_or_rounded(tmp_path):
    lines = ["{:f} {:f} {:f}".format(*point) for point in POINTS]
    with pytest.raises(DataError, match="its header promises 300 points, it holds 200"):
        read_cloud(written(tmp_path / "a.ply", lines, PLY.format(300, *["float"] * 3)))
    assert len(read_cloud(written(tmp_path / "b.ply", lines, PLY.format(200, *["float"] * 3)))) == 200
    far = ["{:f} {:f} {:f}".format(*point) for point in POINTS + 5e6]
    with pytest.raises(DataError, match="has rounded these coordinates"):
        read_cloud(written(tmp_path / "c.ply", far, PLY.format(200, *["float"] * 3)))
    assert len(read_cloud(written(tmp_path / "d.ply", far, PLY.format(200, *["double"] * 3)))) == 200


def test_what_is_written_is_there(tmp_path):
    path = write_cloud(as_cloud(POINTS), tmp_path / "X.NPY")
    assert path.is_file() and len(read_cloud(path)) == 200
