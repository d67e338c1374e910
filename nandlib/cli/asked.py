"""What the commands that use NAND on images of one's own are asked for, and the detector that it describes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from nandlib.cli.app import progress
from nandlib.errors import DataError, UnheardWarning
from nandlib.settings import EMBEDDED_HEADS, RESOURCES

if TYPE_CHECKING:
    from nandlib.data.maps import Detector, MapFolder
    from nandlib.models import VisionLanguageModel
    from nandlib.streaming.listing import Listing

_TEXT = typer.Option("--text", "-t", help="what counts as normal; may be repeated; phrases for one thing parted by ;")
Texts = Annotated[list[str], _TEXT]
SomeTexts = Annotated[list[str] | None, _TEXT]
Accept = Annotated[
    list[Path] | None,
    typer.Option(
        help="an image that shows what counts as normal, or a folder of them; may be repeated; with one --text they show the same thing"
    ),
]
AcceptMasks = Annotated[
    Path | None,
    typer.Option(help="folder of masks under the names of images of --accept: where they show it; others by the detector's own map"),
]
Noun = Annotated[str, typer.Option(help="what the images show: carpet")]
DetectorName = Annotated[
    str | None,
    typer.Option(
        "--detector",
        help="aprilgan, aprilgan_<k>, winclip_<k>, patchcore, uniad, onenip, pbas, pradot, hetnet_style, fader_style; "
        "with --checkpoint an anomalib class",
    ),
]
MapsFolder = Annotated[Path | None, typer.Option("--maps", help="folder of your own anomaly maps (.npy, .tiff) under the images' names")]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        help="a model that anomalib trained, .ckpt (--detector names its class: Patchcore), or what 'nand fit' wrote, .safetensors"
    ),
]
Normals = Annotated[
    Path | None,
    typer.Option(help="folder of normal images: they fit PatchCore, are references, calibrate nand_plus, say what is 0 in anomalib's maps"),
]
Method = Annotated[str, typer.Option(help="nand (the paper's rule) or nand_plus (this study's; needs --normals)")]
Weights = Annotated[Path | None, typer.Option("--model", help="other heads for the embedded model")]
Clip = Annotated[
    Path | None,
    typer.Option(help="CLIP ViT-L/14@336's weights: the paper's model, with --model its projections ('random', both: a dry run)"),
]
Device = Annotated[str, typer.Option(help="torch device: cpu, cuda")]


@dataclass(frozen=True)
class Setting:
    """What the commands are asked for."""

    texts: list[str]
    accept: list[Path]
    noun: str
    detector: str | None
    maps: Path | None
    checkpoint: Path | None
    normals: Path | None
    method: str
    weights: Path | None
    clip: Path | None = None
    device: str = "cpu"
    accept_masks: Path | None = None

    def check(self) -> None:
        """Raise DataError if they contradict each other, or one is missing."""
        from nandlib.method.config import METHODS
        from nandlib.method.prompts import read_texts

        if not read_texts(self.texts) and (self.texts or not self.accept):
            raise DataError('--text is empty: say what counts as normal, as in --text "loose thread", or show it with --accept IMAGE')
        if self.method not in METHODS:
            raise DataError(f"--method is '{self.method}': {' or '.join(METHODS)}")
        if self.clip and not self.weights:
            raise DataError(f"--clip {self.clip}: --model must name the projections that were trained for it, such as APRIL-GAN's")
        self.examples()
        check_device(self.device)
        check_source(self.detector, self.maps, self.checkpoint)

    def accepted(self) -> list[Path]:
        """Images of --accept; masks among them are none."""
        from nandlib.streaming.listing import Listing, find_images

        if not self.accept:
            return []
        masks = [self.accept_masks] if self.accept_masks else []
        if masks and masks[0].is_file():
            return [image for image in find_images(self.accept) if not image.samefile(masks[0])]
        listing = Listing.of(self.accept, masks)
        return [Path(listing.path(name)) for name in listing]

    def read(self) -> set[Path]:
        """The images and masks that are read, links followed, beside those that are asked about."""
        from nandlib.streaming.listing import find_images

        places = (place for place in (self.normals, self.accept_masks) if place is not None)
        return {path.resolve() for path in (*self.accepted(), *(path for place in places for path in find_images([place])))}

    def examples(self) -> list[Any]:
        """Images of --accept: paths, or those that have a mask with it.

        Raises:
            DataError: If there is a folder of masks, and no image has one, or a mask is of no image.
        """
        from nandlib.data.images import load_mask
        from nandlib.method.examples import Example

        images = self.accepted()
        masks = masks_by_image(images, self.accept_masks) if self.accept_masks else {}
        return [Example(image, load_mask(masks[image])) if image in masks else image for image in images]

    def warn(self) -> None:
        """Say on stderr which texts the embedded model was never told anything like."""
        from nandlib.heard import unheard, warning
        from nandlib.method.prompts import read_texts

        told = [] if self.weights else unheard(phrase for phrases in read_texts(self.texts) for phrase in phrases)
        for phrase in told:
            typer.echo(f"{warning(phrase)} with 'nand check'", err=True)

    def record(self, maps: MapFolder | None = None) -> dict[str, Any]:
        """What results depend on, as JSON: files and folders by what they hold; `maps`, where they are the detector."""
        from importlib.metadata import version

        from nandlib.streaming.listing import find_images
        from nandlib.streaming.results import digest

        named = {"checkpoint": self.checkpoint, "model": self.weights or EMBEDDED_HEADS, "clip": self.clip}
        files = {name: [path] if path else [] for name, path in named.items()}
        files |= {"normals": find_images([self.normals]) if self.normals else [], "accept": self.accepted()}
        masks = masks_by_image(files["accept"], self.accept_masks) if self.accept_masks else {}
        files |= {"accept masks": list(masks.values())}
        if maps is not None:  # which say where an example shows it
            files["example maps"] = [maps.path_of(image) for image in files["accept"]]
        there = {name: [path for path in own if path.is_file()] for name, own in files.items()}  # of others, whoever loads them speaks
        held = {name: digest(b"".join(digest(path.read_bytes()) for path in own)).hex() if own else None for name, own in there.items()}
        words = {"texts": self.texts, "noun": self.noun, "method": self.method, "detector": self.detector or "maps"}
        words |= {"tower": "clip" if self.clip else "mini", "device": self.device}
        masked = [place for place, image in enumerate(files["accept"]) if image in masks]
        return {"nandlib": version("nandlib"), "code": digest(_code()).hex(), **words, **held, "masked": masked}


def masks_by_image(images: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """The masks of a folder, by the image of the same name, with or without ``_mask``, in the images' order: ``crack/000_mask.png`` is of
    ``…/crack/000.png``, and of an image ``000.png`` elsewhere if there is but one that has none.

    Raises:
        DataError: If a mask is of no image, or of several.
    """
    from nandlib.streaming.listing import find_images

    root = folder if folder.is_dir() else folder.parent  # a mask may be given alone
    names = {mask: mask.relative_to(root).with_name(mask.stem.removesuffix("_mask")) for mask in find_images([folder])}
    if both := next((image for image in images if image in names), None):
        raise DataError(f"--accept-masks {folder}: {both} is an image of --accept too: put the masks into a folder of their own")
    found = dict[Path, Path]()
    for whole in (True, False):  # first those whose folders agree as well
        for mask, name in names.items():
            tail = name.parts if whole else name.parts[-1:]
            fitting = [image for image in images if image.absolute().with_suffix("").parts[-len(tail) :] == tail]
            free = [image for image in fitting if image not in found]
            if mask in found.values() or (whole and len(free) != 1):
                continue
            if len(free) != 1:
                of = (
                    f"several images of --accept, {free[0]} and {free[1]}: put it into a folder of the same name as theirs"
                    if free
                    else "no image of --accept: they go by the same name"
                )
                raise DataError(f"--accept-masks: {mask} is the mask of {of}")
            found[free[0]] = mask
    return {image: found[image] for image in images if image in found}


def _code() -> bytes:
    """Of all that maps and scores come from, however often a version is changed."""
    rooms = ("data", "detectors", "integrations", "method", "models", "streaming")
    return b"".join(path.read_bytes() for room in rooms for path in sorted((RESOURCES.parent / room).rglob("*.py")))


def check_device(device: str) -> None:
    """Raise DataError unless torch can use a device here."""
    if device != "cpu":
        from nandlib.models.base import why_not

        if why := why_not(device):
            raise DataError(f"--device {device} cannot be used here ({why}): leave it out for the processor, or see 'nand doctor'")


def check_source(detector: str | None, maps: Path | None, checkpoint: Path | None) -> None:
    """Raise DataError unless the options name one source of anomaly maps."""
    if maps is not None and (detector or checkpoint):
        raise DataError("give --maps, or --detector, not both")
    if checkpoint is not None and detector is None:
        raise DataError(f"--checkpoint {checkpoint}: --detector must name what it is, as in --detector Patchcore (anomalib's), or uniad")
    if maps is None and detector is None:
        raise DataError("whose anomaly maps? give --maps FOLDER, or --detector aprilgan (or another; 'nand apply --help' lists them)")


def chosen_detector(
    detector: str | None,
    maps: Path | None,
    checkpoint: Path | None,
    model: VisionLanguageModel,
    noun: str,
    normals: Sequence[Path],
    listing: Listing | None,
    examples: Sequence[Path] = (),
) -> Detector:
    """The base detector that the options name; maps are those of the listed images, and of examples beside them."""
    if maps is not None and listing is not None:
        from nandlib.streaming.map_files import map_folder

        return map_folder(maps, listing, examples)
    if checkpoint is not None and checkpoint.suffix == ".safetensors":
        from nandlib.detectors.trained import TRAINED

        if detector not in TRAINED:
            raise DataError(f"--checkpoint {checkpoint}: --detector must be the one that 'nand fit' trained: {', '.join(TRAINED)}")
        return TRAINED[detector].load(checkpoint, model)
    if checkpoint is not None:
        from nandlib.integrations.anomalib import AnomalibDetector, load_module

        return AnomalibDetector(load_module(str(detector), checkpoint)).floored(normals)
    from nandlib.detectors.fit import fit_detector
    from nandlib.detectors.training import Run

    return fit_detector(str(detector), model, noun=noun, normals=normals, run=Run(progress=progress()))


def adapted_detector(s: Setting, listing: Listing | None) -> Any:
    """The adapted detector that the options describe."""
    from nandlib.method.normality import add_normality
    from nandlib.method.prompts import free_name, read_texts
    from nandlib.models import Placement, load_model
    from nandlib.streaming.listing import find_images

    s.check()
    texts = read_texts(s.texts)
    model = load_model("clip" if s.clip else "mini", s.weights, Placement(s.device), s.clip)
    normals = find_images([s.normals]) if s.normals else []
    detector = chosen_detector(s.detector, s.maps, s.checkpoint, model, s.noun, normals, listing, s.accepted())
    examples = s.examples()
    together = examples if len(texts) <= 1 else []  # several texts: which of them the examples show is not said
    first = texts[0] if texts else ()
    method = cast(Any, s.method)  # checked above
    with warnings.catch_warnings(action="ignore", category=UnheardWarning):  # `Setting.warn` says it once for all processes
        adapted = add_normality(detector, first, examples=together, model=model, noun=s.noun, method=method, normals=normals)
        for phrases in texts[1:]:
            adapted = adapted.add(phrases)
    return adapted if together or not examples else adapted.add(name=free_name(adapted.names), examples=examples)
