"""Use NAND on images of your own, however many: `nand apply`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from nandlib.cli.app import ADAPT, AsJson, app, print_json, progress, records
from nandlib.cli.asked import (
    Accept,
    AcceptMasks,
    Checkpoint,
    Clip,
    DetectorName,
    Device,
    MapsFolder,
    Method,
    Normals,
    Noun,
    Setting,
    SomeTexts,
    Weights,
    adapted_detector,
)
from nandlib.errors import DataError


@app.command(rich_help_panel=ADAPT)
def apply(
    images: Annotated[list[str], typer.Argument(help="folders of images, or image files; or one address that fsspec opens (s3://…)")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for scores.csv, maps/, overlays/ and shards/")],
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
    clip: Clip = None,
    device: Device = "cpu",
    overlays: Annotated[bool | None, typer.Option(help="write pictures of the maps before and after (default: with --store files)")] = None,
    store: Annotated[
        Literal["files", "shards"], typer.Option(help="maps as .npy, a file an image; or, for many images, as safetensors in shards/")
    ] = "files",
    skip_unreadable: Annotated[bool, typer.Option("--skip-unreadable", help="list images that cannot be read, and go on")] = False,
    batch: Annotated[int, typer.Option(min=1, help="images that go through the networks at once")] = 8,
    engine: Annotated[Literal["local", "ray"], typer.Option(help="here, or on a Ray cluster (needs the extra 'ray')")] = "local",
    address: Annotated[str | None, typer.Option(help="of the Ray cluster; default: one on this machine")] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="processes; default: one a core (on Linux, with --threads one)"),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="of a worker; results are the same bytes for one number of them")] = 1,
    as_json: AsJson = False,
) -> None:
    """Add normalities to a detector: images and texts or examples in, adapted maps, scores and overlays out.

    What is in the folder --out already and has not changed is not computed again: a run that was stopped goes on where it was. In
    scores.csv, `removed` is how much of each map is gone, in percent; an overlay shows the image, its map before, and after.

    Examples:

      nand apply carpet/test -t "loose thread" --noun carpet --detector patchcore --normals carpet/train/good -o adapted

      nand apply carpet/test --accept rejected_yesterday --detector patchcore --normals carpet/train/good -o adapted

      nand apply carpet/test -t "loose thread" --noun carpet --maps my_maps -o adapted_maps

      nand apply carpet/test -t "loose thread" --noun carpet --detector Patchcore --checkpoint model.ckpt -o adapted_anomalib

      nand apply carpet/test -t "loose thread" --noun carpet --detector aprilgan -o adapted_many --store shards --engine ray
    """
    from nandlib.method.prompts import read_texts
    from nandlib.streaming.apply import apply as run
    from nandlib.streaming.here import Here
    from nandlib.streaming.listing import Listing
    from nandlib.streaming.map_files import map_folder
    from nandlib.streaming.results import digest
    from nandlib.streaming.work import How

    if engine == "local" and address:
        raise DataError(f"--address {address} is that of a Ray cluster: give --engine ray too")
    if engine == "local" and device != "cpu" and (workers or 1) > 1:
        raise DataError(f"--workers {workers} with --device {device}: processes of one machine cannot share a GPU: leave --workers out")
    asked = Setting(text or [], accept or [], noun, detector, maps, checkpoint, normals, method, model, clip, device, accept_masks)
    asked.check()
    asked.warn()
    listing = Listing.of(images, [out / "maps", out / "overlays", *([maps] if maps else [])])
    own = map_folder(maps, listing, asked.accepted()) if maps else None
    how = How(store, store == "files" if overlays is None else overlays, batch, skip_unreadable)
    setting = asked.record(own)
    where: Any
    if engine == "ray":
        from nandlib.streaming.cluster import Cluster

        where = Cluster(address, workers, threads, gpus=0 if device == "cpu" else 1)
    else:
        where = Here(workers if device == "cpu" else 1, threads)
    table = run(lambda: adapted_detector(asked, listing), listing, out, setting, how, maps=own, engine=where, progress=progress())
    shown = {digest(path.read_bytes()) for path in asked.accepted()}
    among = [row["image"] for row in table.select(["image", "digest"]).to_pylist() if row["digest"][:16] in shown] if shown else []
    scores = table.select(["image", "score_before", "score_after", "removed"]).to_pandas()
    if as_json:
        texts = {phrases[0]: phrases for phrases in read_texts(asked.texts)}
        examples = {next(iter(texts)) if len(texts) == 1 else "example": len(shown)} if shown else {}
        made = {"out": str(out), "normalities": texts, "examples": examples, "examples_among_images": among, "method": method}
        print_json({**made, "images": records(scores), "not_read": listing.unread()})
        return
    if among:
        typer.echo(f"{len(among)} of the images were given as examples ({among[0]}): their scores say nothing about others", err=True)
    if others := listing.unread():
        typer.echo(f"{len(others)} pictures are of a kind that is not read ({others[0]}): convert them, to .png for example", err=True)
    if unread := int(scores["score_before"].isna().sum()):
        typer.echo(f"{unread} of the images could not be read: {out / 'unreadable.csv'}", err=True)
    if unread == len(scores):
        raise DataError(f"none of the {unread} images could be read: {out / 'unreadable.csv'} says why")
    fell, means = int((scores["score_after"] < 0.9 * scores["score_before"]).sum()), scores[["score_before", "score_after"]].mean()
    typer.echo(
        f"{len(scores) - unread} images: mean score {means['score_before']:.3f} before, {means['score_after']:.3f} after; "
        f"for {fell} it fell by more than a tenth"
    )
    left = (scores["score_after"] / scores["score_before"]).nsmallest(3)
    if len(left := left[left < 0.9]):
        named = (
            f"{name} ({before:.3g} to {after:.3g})" for name, before, after in scores.loc[left.index].iloc[:, :3].itertuples(index=False)
        )
        typer.echo(f"it fell most for {', '.join(named)}: if these are not what was meant, see 'nand check'")
    for place in ("scores.csv", "maps" if store == "files" else "shards", *(("overlays",) if how.overlays else ())):
        typer.echo(out / place)
