"""Use NAND on images of your own: `nand fit`, `nand explain`, `nand check`, `nand export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nandlib.cli.app import ADAPT, AsJson, app, print_json, same_file
from nandlib.cli.asked import (
    Accept,
    AcceptMasks,
    Checkpoint,
    DetectorName,
    MapsFolder,
    Method,
    Normals,
    Noun,
    Setting,
    SomeTexts,
    Texts,
    Weights,
    adapted_detector,
)
from nandlib.errors import DataError


@app.command(rich_help_panel=ADAPT)
def explain(
    image: Annotated[Path, typer.Argument(help="an image")],
    out: Annotated[Path, typer.Option("--out", "-o", help="the figure, .png")] = Path("explained.png"),
    text: SomeTexts = None,
    accept: Accept = None,
    accept_masks: AcceptMasks = None,
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
    from nandlib.show.explain import explain as look
    from nandlib.show.style import save, use_style
    from nandlib.streaming.listing import Listing

    if out.suffix.lower() != ".png":
        raise DataError(f"--out {out}: the figure is a .png")
    if image.is_dir():
        raise DataError(f"{image} is a folder: explain shows one image; 'nand apply' takes folders")
    listing = Listing.of([image])
    detector = detector or ("aprilgan" if maps is None and checkpoint is None else None)
    use_style()
    setting = Setting(text or [], accept or [], noun, detector, maps, checkpoint, normals, method, model, accept_masks=accept_masks)
    if same_file(out, {image, *setting.read()}):
        raise DataError(f"--out {out} is one of the images that are read: give the figure another name")
    setting.warn()
    seen, figure = look(adapted_detector(setting, listing), found := image.absolute())
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
    accept_masks: AcceptMasks = None,
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
    from math import isnan

    from nandlib.data.images import pixel_key
    from nandlib.method.check import refuse_contradictions
    from nandlib.streaming.listing import find_images

    setting = Setting(text or [], accept or [], noun, detector, None, checkpoint, normals, method, model, accept_masks=accept_masks)
    adapted = adapted_detector(setting, None)
    folders = {"rejects": rejects, "accepted": accepted, "rejected": rejected}
    images = {kind: find_images([folder]) if folder else [] for kind, folder in folders.items()}
    passing = find_images([good])
    trained = {pixel_key(path): path for path in (find_images([normals]) if normals else [])}  # which may hold one twice
    accepted_now = setting.accepted()
    refuse_contradictions({"--normals": list(trained.values()), "--accept": accepted_now, "good": passing, **images})
    found, renewed = adapted.check(passing, **images), None
    if not as_json:
        typer.echo(found)
        shares = [f"{found.removed_normals:.0f} % of the scores of normal images"]
        if any(images.values()):
            regions = "" if isnan(found.removed_regions) else f", {found.removed_regions:.0f} % of what lies above the threshold in them"
            shares.append(f"{found.removed_rejects:.0f} % of those of all others that were given{regions}")
        typer.echo(f"removed: {'; '.join(shares)}")
        cut = found.threshold
        typer.echo(f"threshold: {cut.value:.4g}, set by {cut.n_normals} normal images: at most {cut.level:.0%} of such are above it")
        for name, what in (("overkill", "accepted images above it"), ("escapes", "rejected images that pass it")):
            before, after = getattr(found, f"{name}_before"), getattr(found, f"{name}_after")
            if before is not None:
                typer.echo(f"{name} ({what}): {before} before, {after} after")
    if fresh is not None:
        anew = adapted.recalibrate([*passing, *images["accepted"]], fresh)
        assert anew.threshold is not None
        renewed = {**asdict(anew.threshold), "escapes": int((~anew.predict(images["rejected"])).sum()) if images["rejected"] else None}
    if as_json:
        print_json({**asdict(found), "fresh": renewed})
        return
    if renewed is not None:
        passed = "" if renewed["escapes"] is None else f"; {renewed['escapes']} of {len(images['rejected'])} rejected images pass it"
        said = "fresh threshold {value:.4g}: at most {level:.0%} of parts that should pass are above it, with {confidence:.0%} confidence"
        typer.echo(said.format(**renewed) + passed)
    typer.echo("No check bounds the defects that will be missed: it holds for parts like those that were given.")


@app.command(rich_help_panel=ADAPT)
def fit(
    out: Annotated[Path, typer.Argument(help="the .safetensors file to write")],
    detector: Annotated[str, typer.Option(help="uniad, onenip, pbas, pradot, hetnet_style or fader_style")],
    normals: Annotated[Path, typer.Option(help="folder of normal images")],
    model: Weights = None,
) -> None:
    """Train a detector once, for 'nand apply', 'explain' and 'check' with --checkpoint. A training that was stopped goes on.

    Example:

      nand fit uniad.safetensors --detector uniad --normals carpet/train/good

      nand apply carpet/test -t "loose thread" --noun carpet --detector uniad --checkpoint uniad.safetensors -o adapted
    """
    from nandlib.cli.app import progress
    from nandlib.detectors.trained import TRAINED
    from nandlib.detectors.training import Run
    from nandlib.errors import nearest
    from nandlib.models import load_model
    from nandlib.streaming.listing import find_images

    if detector not in TRAINED:
        raise DataError(f"--detector {detector}: {nearest(detector, list(TRAINED))} (others are fitted in a moment, by each command)")
    if out.suffix != ".safetensors":
        raise DataError(f"{out}: the state is a .safetensors")
    stopped = out.with_suffix(".pt")
    found = TRAINED[detector].fit(find_images([normals]), load_model("mini", model), run=Run(stopped, progress()))
    typer.echo(found.save(out))
    stopped.unlink(missing_ok=True)


@app.command("export", rich_help_panel=ADAPT)
def export(
    out: Annotated[Path, typer.Argument(help="the .onnx file to write")],
    text: Texts,
    noun: Noun = "object",
    detector: Annotated[str, typer.Option(help="aprilgan, aprilgan_<k> or patchcore")] = "aprilgan",
    normals: Normals = None,
    model: Weights = None,
) -> None:
    """The adapted embedded detector as one ONNX graph with the texts baked in (needs the extra 'onnx'). Examples cannot be in it: they are
    compared by regions, which ONNX cannot find."""
    from nandlib.integrations.onnx import export_onnx

    adapted = adapted_detector(Setting(text, [], noun, detector, None, None, normals, "nand", model), None)
    typer.echo(export_onnx(adapted, out))
