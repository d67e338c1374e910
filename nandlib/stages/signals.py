"""Signals from records to tables: record-level detection, and the contest of examples, for every detector."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from nandlib.data.groups import GOOD
from nandlib.detectors.training import Run
from nandlib.evaluation.contest import KS, draws_of
from nandlib.evaluation.kshot import KShot
from nandlib.evaluation.protocol import auroc
from nandlib.evaluation.result_tables import kshot_summary, shown_tables
from nandlib.evaluation.shown import SHOWN_K, shown_scores
from nandlib.evaluation.uncertainty import GIVEN
from nandlib.signals.autoencoder import MaskedAutoencoder
from nandlib.signals.config import SignalStudy
from nandlib.signals.contest import SignalContest
from nandlib.signals.detector import SignalDetector
from nandlib.signals.nearest import NearestRecords
from nandlib.signals.records import Split, read_ecg5000, read_ptbxl
from nandlib.study.open_kind import OpenKind

RECORD_COLUMNS = ["part", "detector", "score", "n_train", "n_good", "n_abnormal", "auroc", "parameters", "flops"]
TYPE_COLUMNS = ["detector", "group", "n", "auroc"]


def write_signals(study: OpenKind[SignalStudy], progress: bool = True) -> None:
    """Write ``records.csv`` (`RECORD_COLUMNS`), ``types.csv`` (`TYPE_COLUMNS`), ``groups.csv`` (of the typed test records), ``kshot.csv``,
    ``intervals.csv`` and ``summary.csv`` (as of images, by detector), ``maps.safetensors`` for the pictures, and the protocol's own scores
    and tables with some examples of every type (`nandlib.evaluation.shown`).

    Args:
        study: Of signals.
        progress: Show bars.
    """
    config, records, types = study.config, list[tuple[object, ...]](), list[tuple[object, ...]]()
    tables: dict[str, list[pd.DataFrame]] = {"kshot": [], "intervals": [], "summary": []}
    kept, groups, scores = dict[str, torch.Tensor](), pd.DataFrame(), list[pd.DataFrame]()
    for part, split in splits_of(study, progress).items():
        for detector in _detectors(split, config, progress):
            records += _records(part, split, detector)
            if part != "typed":
                continue
            one = SignalContest(split, detector, config.window, config.plus, config.examples)
            types += _types(one)
            found = KShot(KS, config.draws, retrained=0, methods=one.methods)
            found.add(one)
            scores.append(shown_scores(one, detector.name))
            own = {"kshot": found.table(), "intervals": found.intervals()}
            own["summary"] = kshot_summary(own["kshot"])
            for name, table in own.items():
                table.insert(0, "detector", detector.name)
                tables[name].append(table)
            kept |= {"signals": one.signals, **_pictured(one)}
            groups = pd.DataFrame({"group": split.test.groups})
    study.write_csv(pd.DataFrame(records, columns=RECORD_COLUMNS), "records.csv")
    study.write_csv(pd.DataFrame(types, columns=TYPE_COLUMNS), "types.csv")
    study.write_csv(groups, "groups.csv")
    for name, parts in tables.items():
        study.write_csv(pd.concat(parts, ignore_index=True), f"{name}.csv")
    frame = pd.concat(scores, ignore_index=True)
    study.write_protocol(frame, shown_tables(frame, GIVEN))
    study.data.mkdir(parents=True, exist_ok=True)
    save_file(kept, study.data / "maps.safetensors")


def splits_of(study: OpenKind[SignalStudy], progress: bool) -> dict[str, Split]:
    """Parts of the data: ``typed`` is the one with types."""
    data = study.config.data
    if data.layout == "ptbxl":
        return {"typed": read_ptbxl(study.root / data.root, data.rate, progress)}
    path = study.root / data.root
    return {"untyped": read_ecg5000(path, typed=False), "typed": read_ecg5000(path, typed=True, seed=data.seed)}


def _detectors(split: Split, config: SignalStudy, progress: bool) -> Iterator[SignalDetector]:
    normals = torch.from_numpy(split.train.signals)
    yield NearestRecords.fit(normals, config.nearest)
    yield MaskedAutoencoder.fit(normals, config.autoencoder, Run(progress=progress))


def _records(part: str, split: Split, detector: SignalDetector) -> Iterator[tuple[object, ...]]:
    """`RECORD_COLUMNS`: good records against all others, by the mean and by the maximum of the map."""
    maps, abnormal = detector.maps(torch.from_numpy(split.test.signals)).numpy(), split.test.groups != GOOD
    counts = len(split.train), int((~abnormal).sum()), int(abnormal.sum())
    size: tuple[float, float] = (np.nan, np.nan)
    if isinstance(detector, MaskedAutoencoder):
        size = detector.parameters, detector.flops()
    for score, values in (("mean", maps.mean(1)), ("maximum", maps.max(1))):
        yield part, detector.name, score, *counts, auroc(abnormal, values), *size


def _types(one: SignalContest) -> Iterator[tuple[object, ...]]:
    """`TYPE_COLUMNS`: good records against those of one type, by the maximum of the map."""
    scores, good = one.scores("nothing", "", ()), one.groups == GOOD
    for group in one.added:
        own = one.groups == group
        yield one.detector.name, group, int(own.sum()), auroc(own[good | own], scores[good | own])


def _pictured(one: SignalContest) -> dict[str, torch.Tensor]:
    """A of all tested records, and A_final with some examples of every type: ``<detector>/maps``, ``<detector>/final/<type>``."""
    found = {"maps": one.maps.contiguous()}
    for draw in draws_of(one, (SHOWN_K,), 1):
        found[f"final/{draw.group}"] = one.final("examples", draw.examples).contiguous()
    return {f"{one.detector.name}/{name}": tensor for name, tensor in found.items()}
