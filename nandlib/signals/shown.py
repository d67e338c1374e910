"""Normality by example in time: A(t) · (1 - S(t)), the analogue of Eq. 6, where S comes from records that show what is acceptable.

What images do with patches (`nandlib.method.examples`) windows of a signal do here: a point is described by the samples around it; its
residual is what differs from the nearest window of normal records; a region is the catchment area of one peak of A. This is an extension of
this study: the paper knows images alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from nandlib.data.images import evenly
from nandlib.errors import DataError
from nandlib.method.config import ExampleConfig, PlusConfig
from nandlib.method.examples import probability, region_directions, residuals
from nandlib.method.plus import Regions, find_regions
from nandlib.signals.detector import check_shape, normal_records

MOST = 8192  # windows of normal records that are kept


def windows(signals: Tensor, width: int) -> Tensor:
    """The `width` samples around every point, of every lead, the ends repeated: ``(N, K, Q)`` to ``(N, Q, K · width)``."""
    padded = F.pad(signals, (width // 2, width - 1 - width // 2), mode="replicate")
    return padded.unfold(2, width, 1).transpose(1, 2).flatten(2)


def _some_windows(signals: Tensor, width: int) -> Tensor:
    """At most `MOST` of all windows ``(n, K · width)``, evenly over their order: of a long record few are cut."""
    samples = signals.shape[2]
    places = torch.tensor(evenly(len(signals) * samples, MOST))
    found = [windows(signals[number : number + 1], width)[0, own % samples] for number, own in _by_record(places, samples)]
    return torch.cat(found)


def _by_record(places: Tensor, samples: int) -> Iterator[tuple[int, Tensor]]:
    for number in (places // samples).unique().tolist():
        yield number, places[places // samples == number]


class ShownSignals:
    """Regions of signals, and which way they differ from what is normal.

    Args:
        maps: A ``(N, Q)``.
        signals: ``(N, K, Q)``.
        normals: Normal records ``(M, K, Q)``.
        width: Samples of a window.
        plus: How regions are found.

    Raises:
        DataError: If signals and normal records differ in leads or length, have gaps, the maps are not of these signals, or there is no
            window.
    """

    def __init__(self, maps: Tensor, signals: Tensor, normals: Tensor, width: int, plus: PlusConfig = PlusConfig()) -> None:
        normals = normal_records(normals)
        signals = check_shape(signals, normals.shape[1], normals.shape[2])
        if maps.shape != (len(signals), signals.shape[2]) or not bool(torch.isfinite(maps).all()):
            raise DataError(f"maps {tuple(maps.shape)} of signals {tuple(signals.shape)}: a number for each sample is expected")
        if width < 1:
            raise DataError(f"a window of {width} samples: one or more")
        centre = normals.mean((0, 2), keepdim=True)  # else an offset would drown what tells windows apart
        self.maps, self.signals, self.width = maps, signals - centre, width
        self.normal = _some_windows(normals - centre, width)
        self.regions: Regions = find_regions(maps[:, None], (1, maps.shape[1]), plus)

    @cached_property
    def directions(self) -> list[Tensor]:
        """Of the regions of every record, N times ``(R, K · width)``, unit norm."""
        differences = (residuals(windows(own[None], self.width)[0], self.normal) for own in self.signals)  # one record's at a time
        return region_directions(differences, self.regions)

    def example(self, number: int) -> Tensor:
        """What a record shows: the direction of its region of highest anomaly.

        Raises:
            DataError: If nothing is anomalous in it.
        """
        peak = int(self.maps[number].argmax())
        if float(self.maps[number, peak]) <= 0:
            raise DataError(f"record {number} shows nothing: its map is 0 everywhere")
        return self.directions[number][self.regions.labels[number, 0, peak]]

    def suppression(self, examples: Sequence[int], config: ExampleConfig = ExampleConfig()) -> Tensor:
        """S ``(N, Q)`` in [0, 1] of the records' normality shown by some of them; DataError for none."""
        if not len(examples):
            raise DataError("nothing is shown: give one example or more")
        shown = torch.stack([self.example(number) for number in examples])
        found = probability(torch.cat(self.directions), shown, config)
        return self.regions.paint(found.split([len(own) for own in self.directions]))[:, 0]
