"""ONNX: an adapted embedded detector as one graph, with the texts baked in."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import onnx
import onnxscript  # noqa: F401 (torch needs it, and imports it late)
import torch
from torch import Tensor, nn

from nandlib.data.held import written
from nandlib.detectors.aprilgan import AprilGan
from nandlib.detectors.fader import FaderStyle
from nandlib.detectors.patchcore import PatchCore
from nandlib.errors import ModelError
from nandlib.method.adapt import AdaptedDetector
from nandlib.method.operators import suppress
from nandlib.models.mini import IMAGE_SIZE, MiniModel

INPUT, OUTPUTS = "image", ("anomaly_map", "suppression_map", "final_map", "score")
PREPARED = f"one RGB image, float32 from 0 to 255, squashed to {IMAGE_SIZE} x {IMAGE_SIZE} bicubically with antialiasing, as Pillow does"


class _Graph(nn.Module):
    """From pixels to maps: what `AdaptedDetector` does, with its detector, its texts and its memory as constants."""

    def __init__(self, adapted: AdaptedDetector, model: MiniModel, detector: AprilGan | PatchCore | FaderStyle) -> None:
        super().__init__()
        self.adapted, self.detector, self.size = adapted, detector, (adapted.nand.map_size,) * 2
        self.tower, self.heads = model.tower, model.heads
        self.network = getattr(detector, "_network", None)  # PatchCore's, with its memory
        self.parts = nn.ModuleList([detector.network, detector.gates] if isinstance(detector, FaderStyle) else [])
        for n in range(len(adapted.normalities) if adapted.nand.method == "nand_plus" else 0):
            adapted.which.sides(adapted.nand.plus, 2 + n)  # found now: numbers of tensors are no part of the graph
        adapted.texts  # noqa: B018 (encoded now: the text tower is no part of the graph)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        batch = (image - 127) / 128
        base = self.detector.maps(batch)
        kept = torch.ones_like(base)
        for sup in self.adapted.suppression(self.adapted.model.encode_image(batch), base).values():
            kept = suppress(kept, sup)
        final = base * kept
        return base, 1 - kept, final, self.adapted.image_scores(final)


def export_onnx(adapted: AdaptedDetector, path: str | Path) -> Path:
    """Write an adapted detector of the embedded model to an .onnx file.

    The graph takes ``image``, float32 ``(1, 3, 320, 320)``, RGB in [0, 255], squashed to that size bicubically as PIL does
    (``Image.resize((320, 320), Image.Resampling.BICUBIC)``). It gives ``anomaly_map`` A, ``suppression_map`` 1 - Π (1 - A_sup),
    ``final_map`` A_final, each ``(1, H, W)``, and ``score`` ``(1,)``. Its metadata say what it takes (``input``), which texts are in it
    (``noun``, ``normalities``, ``method``) and, where one has been set, the ``threshold`` above whose ``value`` a score is rejected
    (`nandlib.method.threshold.Threshold` as JSON).

    Args:
        adapted: From `add_normality`, with the embedded model and a detector of `nandlib.detectors.fit.fit_detector`: APRIL-GAN,
            PatchCore or FADeR-style; method ``"nand"``, or ``"nand_plus"`` without regions (a watershed is no tensor operation).
        path: The file to write.

    Raises:
        ModelError: If model, detector or method cannot be exported.
        DataError: If the file cannot be written.
    """
    if not isinstance(adapted.model, MiniModel):
        raise ModelError(f"only the embedded model can be exported, not {type(adapted.model).__name__}")
    if not isinstance(adapted.detector, (AprilGan, PatchCore, FaderStyle)):
        raise ModelError("only APRIL-GAN, PatchCore and FADeR-style of nandlib.detectors.fit.fit_detector can be exported")
    if getattr(adapted.detector.preprocess, "__func__", None) is not MiniModel.preprocess and not isinstance(adapted.detector, FaderStyle):
        kind = type(adapted.detector).__name__
        raise ModelError(f"the graph takes images as the embedded model does: a {kind} with another model cannot be exported")
    if adapted.nand.by_regions:
        raise ModelError("nand_plus finds regions by a watershed, which ONNX cannot express: export method 'nand', or plus.regions: false")
    if adapted.shown.examples:
        raise ModelError("examples are compared by regions of a watershed, which ONNX cannot express: export texts alone")
    graph = _Graph(adapted, adapted.model, adapted.detector)
    said = {"noun": adapted.noun, "normalities": json.dumps(adapted.normalities), "method": adapted.nand.method}
    if adapted.threshold is not None:
        said["threshold"] = json.dumps(asdict(adapted.threshold))
    return _write(graph, OUTPUTS, said, Path(path))


class _Alone(nn.Module):
    """A detector that needs no model: from pixels to its map."""

    def __init__(self, detector: FaderStyle) -> None:
        super().__init__()
        self.detector, self.parts = detector, nn.ModuleList([detector.network, detector.gates])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        base = self.detector.maps((image - 127) / 128)
        return base, base.flatten(1).amax(1)


def export_detector(detector: FaderStyle, path: str | Path) -> Path:
    """Write a FADeR-style detector alone to an .onnx file: no model, no text.

    The graph takes ``image`` as that of `export_onnx` does, and gives ``anomaly_map`` ``(1, H, W)`` and ``score`` ``(1,)``.

    Args:
        detector: Trained.
        path: The file to write.

    Raises:
        ModelError: If it is another detector.
    """
    if not isinstance(detector, FaderStyle):
        raise ModelError(f"only FADeR-style is exported alone, not {type(detector).__name__}: export_onnx takes adapted detectors")
    return _write(_Alone(detector), ("anomaly_map", "score"), {"detector": detector.name}, Path(path))


def _write(graph: nn.Module, outputs: Sequence[str], said: dict[str, str], path: Path) -> Path:
    """Trace a graph of one image and write it, with what is said of it among its metadata."""
    example = torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph.eval(), (example,), input_names=[INPUT], output_names=list(outputs), dynamo=True, verbose=False
            )
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
    assert program is not None  # with dynamo
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {"input": PREPARED, **said})
    written(path, lambda partial: onnx.save(proto, partial))
    return path
