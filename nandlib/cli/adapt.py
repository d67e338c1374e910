"""Use NAND on images of your own: `nand apply`, `nand explain`, `nand check`, `nand export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from nandlib.cli.app import ADAPT, AsJson, app, print_json, progress, records
from nandlib.errors import DataError

if TYPE_CHECKING:
    from nandlib.data.maps import Detector
    from nandlib.models import VisionLanguageModel

_TEXT = typer.Option("--text", "-t", help="what counts as normal; may be repeated; phrases for one thing parted by ;")
Texts = Annotated[list[str], _TEXT]
SomeTexts = Annotated[list[str] | None, _TEXT]
Accept = Annotated[
    list[Path] | None,
    typer.Option(help="images that show what counts as normal, or folders of them; with one --text they show the same thing"),
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
Checkpoint = Annotated[Path | None, typer.Option(help="a model that anomalib trained, .ckpt; --detector names its class (Patchcore)")]
Normals = Annotated[Path | None, typer.Option(help="folder of normal images: they fit PatchCore, are references, calibrate nand_plus")]
Method = Annotated[str, typer.Option(help="nand (the paper's rule) or nand_plus (this study's; needs --normals)")]
Weights = Annotated[Path | None, typer.Option("--model", help="other heads for the embedded model")]


@dataclass(frozen=True)
class _Setting:
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


def check_source(detector: str | None, maps: Path | None, checkpoint: Path | None) -> None:
    """Raise DataError unless the options name one source of anomaly maps."""
    if maps is not None and (detector or checkpoint):
        raise DataError("give --maps, or --detector, not both")
    if checkpoint is not None and detector is None:
        raise DataError(f"--checkpoint {checkpoint}: --detector must name its class in anomalib, as in --detector Patchcore")
    if maps is None and detector is None:
        raise DataError("whose anomaly maps? give --maps FOLDER, or --detector aprilgan (or another; 'nand apply --help' lists them)")


def chosen_detector(
    detector: str | None,
    maps: Path | None,
    checkpoint: Path | None,
    model: VisionLanguageModel,
    noun: str,
    normals: Sequence[Path],
    images: list[Path],
    root: Path,
) -> Detector:
    """The base detector that the options name."""
    if maps is not None:
        from nandlib.integrations.folders import map_folder

        return map_folder(maps, images, root)
    if checkpoint is not None:
        from nandlib.integrations.anomalib import AnomalibDetector, load_module

        return AnomalibDetector(load_module(str(detector), checkpoint))
    from nandlib.detectors.fit import fit_detector
    from nandlib.detectors.training import Run

    return fit_detector(str(detector), model, noun=noun, normals=normals, run=Run(progress=progress()))


def _adapted(s: _Setting, images: list[Path], root: Path) -> Any:
    """The adapted detector that the options describe."""
    from nandlib.integrations.folders import find_images
    from nandlib.method.normality import add_normality
    from nandlib.method.prompts import read_texts
    from nandlib.models import load_model

    texts = read_texts(s.texts)
    if not texts and (s.texts or not s.accept):
        raise DataError('--text is empty: say what counts as normal, as in --text "loose thread", or show it with --accept IMAGE')
    if s.method not in ("nand", "nand_plus"):
        raise DataError(f"--method is '{s.method}': nand or nand_plus")
    check_source(s.detector, s.maps, s.checkpoint)
    model = load_model("mini", s.weights)
    normals = find_images([s.normals])[0] if s.normals else []
    detector = chosen_detector(s.detector, s.maps, s.checkpoint, model, s.noun, normals, images, root)
    method = cast(Literal["nand", "nand_plus"], s.method)  # checked above
    examples = find_images(s.accept)[0] if s.accept else []
    together = examples if len(texts) <= 1 else []  # several texts: which of them the examples show is not said
    first = texts[0] if texts else ()
    adapted = add_normality(detector, first, examples=together, model=model, noun=s.noun, method=method, normals=normals)
    if examples and not together:
        adapted = adapted.add(name="example", examples=examples)
    for phrases in texts[1:]:
        adapted = adapted.add(phrases)
    return adapted


def _counts(adapted: Any) -> dict[str, int]:
    return {name: len(examples) for name, examples in adapted.shown.examples.items()}


@app.command(rich_help_panel=ADAPT)
def apply(
    images: Annotated[list[Path], typer.Argument(help="folders of images, or image files")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for maps/, overlays/ and scores.csv")],
    text: SomeTexts = None,
    accept: Accept = None,
    noun: Noun = "object",
    detector: DetectorName = None,
    maps: MapsFolder = None,
    checkpoint: Checkpoint = None,
    normals: Normals = None,
    method: Method = "nand",
    model: Weights = None,
    overlays: Annotated[bool, typer.Option(help="write pictures of the maps before and after")] = True,
    as_json: AsJson = False,
) -> None:
    """Add normalities to a detector: images and texts or examples in, adapted maps, scores and overlays out.

    Examples:

      nand apply carpet/test -t "loose thread" --noun carpet --detector patchcore --normals carpet/train/good -o adapted

      nand apply carpet/test --accept rejected_yesterday --detector patchcore --normals carpet/train/good -o adapted

      nand apply carpet/test -t "loose thread" --noun carpet --maps my_maps -o adapted

      nand apply carpet/test -t "loose thread" --noun carpet --detector Patchcore --checkpoint model.ckpt -o adapted
    """
    from nandlib.data.images import pixel_key
    from nandlib.integrations.folders import apply as run
    from nandlib.integrations.folders import find_images

    found, root = find_images(images, [out / "maps", out / "overlays", *([maps] if maps else [])])
    adapted = _adapted(_Setting(text or [], accept or [], noun, detector, maps, checkpoint, normals, method, model), found, root)
    table = run(adapted, found, root, out, overlays=overlays, progress=progress())
    shown = {pixel_key(image) for image in find_images(accept)[0]} if accept else set()
    among = [str(image.relative_to(root)) for image in found if shown and pixel_key(image) in shown]
    if as_json:
        made = {"out": str(out), "normalities": adapted.normalities, "examples": _counts(adapted), "examples_among_images": among}
        print_json({**made, "method": method, "images": records(table)})
        return
    if among:
        typer.echo(f"{len(among)} of the images were given as examples ({among[0]}): their scores say nothing about others", err=True)
    fell, means = int((table["score_after"] < 0.9 * table["score_before"]).sum()), table[["score_before", "score_after"]].mean()
    typer.echo(
        f"{len(table)} images: mean score {means['score_before']:.3f} before, {means['score_after']:.3f} after; "
        f"for {fell} it fell by more than a tenth"
    )
    for place in ("scores.csv", "maps", *(("overlays",) if overlays else ())):
        typer.echo(out / place)


@app.command(rich_help_panel=ADAPT)
def explain(
    image: Annotated[Path, typer.Argument(help="an image")],
    out: Annotated[Path, typer.Option("--out", "-o", help="the figure, .png")] = Path("explained.png"),
    text: SomeTexts = None,
    accept: Accept = None,
    noun: Noun = "object",
    detector: DetectorName = None,
    maps: MapsFolder = None,
    checkpoint: Checkpoint = None,
    normals: Normals = None,
    method: Method = "nand",
    model: Weights = None,
    as_json: AsJson = False,
) -> None:
    """One image, one text or example: where it is seen, and what that does to the anomaly map (default: aprilgan), as a figure."""
    import matplotlib as mpl

    mpl.use("Agg")
    from nandlib.integrations.folders import find_images
    from nandlib.show.explain import explain as look
    from nandlib.show.style import save, use_style

    if out.suffix.lower() != ".png":
        raise DataError(f"--out {out}: the figure is a .png")
    if image.is_dir():
        raise DataError(f"{image} is a folder: explain shows one image; 'nand apply' takes folders")
    (found,), root = find_images([image])
    detector = detector or ("aprilgan" if maps is None and checkpoint is None else None)
    use_style()
    setting = _Setting(text or [], accept or [], noun, detector, maps, checkpoint, normals, method, model)
    seen, figure = look(_adapted(setting, [found], root), found)
    save(figure, out)
    if as_json:
        print_json({"image": str(found), "noun": noun, "method": method, **seen.record(), "figure": str(out)})
        return
    for line in [*seen.sentences(), str(out)]:
        typer.echo(line)


@app.command(rich_help_panel=ADAPT)
def check(
    good: Annotated[Path, typer.Argument(help="normal images that the detector was not trained on: a folder")],
    rejects: Annotated[Path | None, typer.Option(help="images that were rejected, whether rightly or not")] = None,
    accepted: Annotated[Path | None, typer.Option(help="images that should pass from now on; not those given as examples")] = None,
    rejected: Annotated[Path | None, typer.Option(help="images that should still be rejected")] = None,
    text: SomeTexts = None,
    accept: Accept = None,
    noun: Noun = "object",
    detector: DetectorName = None,
    checkpoint: Checkpoint = None,
    normals: Normals = None,
    method: Method = "nand",
    model: Weights = None,
    fresh: Annotated[
        float | None, typer.Option(help="set a threshold anew: at most this share of what should pass is rejected, with 95 % confidence")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Will a text or an example do harm? A verdict from a few images, labelled or not.

    Example:

      nand check good --rejects rejected -t "loose thread" --noun carpet --detector patchcore --normals carpet/train/good
    """
    from dataclasses import asdict

    from nandlib.integrations.folders import find_images
    from nandlib.method.check import refuse_contradictions

    adapted = _adapted(_Setting(text or [], accept or [], noun, detector, None, checkpoint, normals, method, model), [], Path())
    folders = {"rejects": rejects, "accepted": accepted, "rejected": rejected}
    images = {kind: find_images([folder])[0] if folder else [] for kind, folder in folders.items()}
    refuse_contradictions({"--accept": find_images(accept)[0] if accept else [], **images})
    passing = find_images([good])[0]
    found, renewed = adapted.check(passing, **images), None
    if fresh is not None:
        anew = adapted.recalibrate([*passing, *images["accepted"]], fresh)
        assert anew.threshold is not None
        renewed = {**asdict(anew.threshold), "escapes": int((~anew.predict(images["rejected"])).sum()) if images["rejected"] else None}
    if as_json:
        print_json({**asdict(found), "fresh": renewed})
        return
    typer.echo(found)
    for name in ("overkill", "escapes"):
        before, after = getattr(found, f"{name}_before"), getattr(found, f"{name}_after")
        if before is not None:
            typer.echo(f"{name}: {before} before, {after} after")
    if renewed is not None:
        passed = "" if renewed["escapes"] is None else f"; {renewed['escapes']} of {len(images['rejected'])} rejected images pass it"
        said = "fresh threshold {value:.4g}: at most {level:.0%} of parts that should pass are above it, with {confidence:.0%} confidence"
        typer.echo(said.format(**renewed) + passed)
    typer.echo("No check bounds the defects that will be missed: it holds for parts like those that were given.")


@app.command("export", rich_help_panel=ADAPT)
def export(
    out: Annotated[Path, typer.Argument(help="the .onnx file to write")],
    text: Texts,
    noun: Noun = "object",
    detector: Annotated[str, typer.Option(help="aprilgan, aprilgan_<k> or patchcore")] = "aprilgan",
    normals: Normals = None,
    model: Weights = None,
) -> None:
    """The adapted embedded detector as one ONNX graph with the texts baked in (needs the extra 'onnx')."""
    from nandlib.integrations.onnx import export_onnx

    adapted = _adapted(_Setting(text, [], noun, detector, None, None, normals, "nand", model), [], Path())
    typer.echo(export_onnx(adapted, out))
