"""MMAE-ECG-style: what a masked autoencoder cannot fill in (`nandlib.signals.autoencoder_network`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nandlib.detectors.training import Run, key_of, shuffled, train
from nandlib.errors import DataError
from nandlib.models.base import own_randomness
from nandlib.signals.autoencoder_network import (
    STILL,
    MultiScaleAutoencoder,
    complementary,
    hidden_at_random,
    normalised,
    segments_of,
)
from nandlib.signals.config import AutoencoderConfig
from nandlib.signals.detector import check_shape, normal_records

SMOOTH = 5  # samples over which the map is averaged
ROWS = 512  # records at a time


@dataclass(frozen=True)
class MaskedAutoencoder:
    """A(t): mean squared error at t over the masks that hide it, averaged over `SMOOTH` samples, less its median over normal records.

    Attributes:
        network: Trained, frozen.
        config: Its settings.
        least: Deviation by which a flat segment is divided.
        leads: K of the records.
        floor: Median of the raw maps of training-normal records.
    """

    network: MultiScaleAutoencoder
    config: AutoencoderConfig
    least: float
    leads: int
    floor: float = 0.0
    name: str = "mmae_ecg_style"

    @classmethod
    def fit(cls, normals: Tensor, config: AutoencoderConfig = AutoencoderConfig(), run: Run = Run()) -> MaskedAutoencoder:
        """Train on normal records ``(M, K, Q)``; the last epoch counts.

        Raises:
            DataError: If there are no records, they have gaps, the segments do not divide one, or the loss is no number.
        """
        normals = normal_records(normals)
        if normals.shape[2] % config.segments or normals.shape[2] < 2 * config.segments:
            raise DataError(
                f"{normals.shape[2]} samples cannot be cut into {config.segments} segments of two samples or more: choose a number of "
                "segments that divides them"
            )
        cut = segments_of(normals, config.segments)
        least = STILL * float(cut.std(-1).mean())
        given = normalised(cut, least)
        with own_randomness():
            torch.manual_seed(config.seed)
            network = MultiScaleAutoencoder(cut.shape[2], config.segments, config.local, config.width, config.layers)
        steps = torch.optim.AdamW(network.parameters(), config.rate)

        def epoch(number: int) -> float:
            total = 0.0
            for group in steps.param_groups:
                group["lr"] = float(config.rate * 0.5 * (1 + np.cos(np.pi * number / config.epochs)))
            for batch in shuffled(len(given), config.batch_size, config.seed, number):
                starts = torch.randint(config.segments - config.local + 1, (len(batch),))
                hidden = hidden_at_random(len(batch), config.segments, config.mask_ratio)
                squared, counts = network.errors(
                    given[batch], hidden, starts, hidden_at_random(len(batch), config.local, config.mask_ratio)
                )
                loss = squared.mean(-1).sum() / counts.sum()
                steps.zero_grad()
                loss.backward()
                steps.step()
                total += float(loss.detach()) * len(batch)
            return total / len(given)

        train(cls.name, config.epochs, epoch, {"network": network, "steps": steps}, config.seed, run, key_of(config, given))
        network.requires_grad_(False).eval()
        without_floor = cls(network, config, least, normals.shape[1])
        return replace(without_floor, floor=float(without_floor._raw(normals).median()))

    def maps(self, signals: Tensor) -> Tensor:
        """``(N, K, Q)`` to A ``(N, Q)``."""
        return (self._raw(signals) - self.floor).clamp_min(0)

    @torch.no_grad()
    def _raw(self, signals: Tensor) -> Tensor:
        config = self.config
        signals = check_shape(signals, self.leads, self.network.embed.in_features * config.segments // self.leads)
        if not len(signals):
            return signals.new_empty(0, signals.shape[2])
        every = normalised(segments_of(signals, config.segments), self.least)
        found = []
        for given in every.split(ROWS):
            generator = torch.Generator().manual_seed(config.seed)
            squared, counts = torch.zeros_like(given), torch.zeros(given.shape[:2])
            masks = list[Tensor]()
            while len(masks) < config.masks:
                masks += complementary(config.segments, config.mask_ratio, generator)
            for hidden in masks:
                start = int(torch.randint(config.segments - config.local + 1, (), generator=generator))
                local = complementary(config.local, config.mask_ratio, generator)[0]
                rows = len(given)
                given_masks = hidden.expand(rows, -1), torch.full((rows,), start), local.expand(rows, -1)
                own, own_counts = self.network.errors(given, *given_masks)
                squared, counts = squared + own, counts + own_counts
            mean = squared / counts[..., None]
            found.append(mean.unflatten(2, (self.leads, -1)).mean(2).flatten(1))
        raw = torch.cat(found)
        return F.avg_pool1d(raw[:, None], SMOOTH, 1, SMOOTH // 2, count_include_pad=False)[:, 0]

    def flops(self) -> int:
        """Multiplications and additions of one record's map, all masks together."""
        samples = self.network.embed.in_features * self.config.segments // self.leads
        fused = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # fused operations, of which the counter knows nothing
        try:
            with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
                self._raw(torch.zeros(1, self.leads, samples))
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
        return int(counter.get_total_flops())

    @property
    def parameters(self) -> int:
        """How many there are."""
        return sum(own.numel() for own in self.network.parameters())
