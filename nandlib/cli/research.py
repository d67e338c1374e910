"""Commands for those who change something: own projections and prompts, seeds, wordings, choices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from nandlib.cli.app import RESEARCH, StudyName, app, print_json, progress, registered_study, same_file
from nandlib.errors import DataError, NandError


@app.command("train-projections", rich_help_panel=RESEARCH)
def train_projections(
    root: Annotated[Path, typer.Argument(help="defects with masks in MVTec AD layout; never the data that is tested on")],
    out: Annotated[Path, typer.Argument(help="file for the projections, .safetensors")],
    clip_weights: Annotated[Path, typer.Option(help="CLIP ViT-L/14@336")] = Path("data/models/clip/vit_l_14_336.safetensors"),
    epochs: Annotated[int, typer.Option(min=1, help="the original: 15 on VisA, 3 on MVTec AD")] = 15,
    mosaic: Annotated[float, typer.Option(min=0, max=1, help="share of 2 x 2 mosaics; the original: 0 on VisA, 0.2 on MVTec AD")] = 0.0,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    seed: Annotated[int, typer.Option(help="of initialisation, order and mosaics")] = 0,
    device: Annotated[str, typer.Option(help="torch device")] = "cpu",
    precision: Annotated[str, typer.Option(help="float32 or autocast")] = "float32",
) -> None:
    """Train APRIL-GAN's projections for a frozen CLIP ViT-L/14@336 at 518 px, as the original does; the last epoch counts."""
    import json

    from safetensors.torch import save_file

    from nandlib.errors import ModelError
    from nandlib.method.config import PromptConfig
    from nandlib.method.prompts import load_prompts
    from nandlib.models import Placement
    from nandlib.models.clip import ClipModel
    from nandlib.settings import RANDOM
    from nandlib.training.projections import MaskedImages
    from nandlib.training.projections import train_projections as train

    if clip_weights == RANDOM:
        raise ModelError("--clip-weights: projections for random weights would be no use: name CLIP's own")
    if precision not in ("float32", "autocast"):
        raise ModelError(f"--precision is '{precision}': float32 or autocast")
    where = Placement(device, cast(Literal["float32", "autocast"], precision))
    model = ClipModel.load(RANDOM, clip_weights, where)  # its projections are not used
    images = MaskedImages(root, model, mosaic, seed)
    projections, losses = train(
        model, load_prompts(PromptConfig()), images, epochs=epochs, batch_size=batch_size, seed=seed, progress=progress()
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(projections.state_dict(), out)
    recipe = {
        "root": root.name,
        "classes": sorted(set(images.rows["class"])),
        "images": len(images.rows),
        "clip_weights": clip_weights.name,
        "precision": precision,
        "epochs": epochs,
        "mosaic": mosaic,
        "batch_size": batch_size,
        "seed": seed,
        "losses": losses,
    }
    out.with_suffix(".json").write_text(json.dumps(recipe, indent=2) + "\n")
    typer.echo(f"{out}: loss {losses[0]:.4f} in the first epoch, {losses[-1]:.4f} in the last")


@app.command("generate-prompts", rich_help_panel=RESEARCH)
def generate_prompts(
    study: Annotated[str, typer.Argument(help="name of a study: its classes and types are asked for")],
    out: Annotated[Path, typer.Argument(help="prompt file to write, .yaml; answers are recorded beside it")],
) -> None:
    """Ask a language model for phrases by the paper's request; address, model and key come from OPENAI_* variables."""
    from nandlib.study.open_study import open_study, project_root
    from nandlib.study.prompt_generator import generate

    opened = open_study(study, project_root())
    phrases = generate(opened.types(), out, progress=progress())
    typer.echo(f"{out}: {sum(len(p) for types in phrases.values() for p in types.values())} phrases; set prompts.file to it")


@app.command(rich_help_panel=RESEARCH)
def selection(study: StudyName = "validation") -> None:
    """The values between which the parameters of nand_plus were chosen, on the products of that study."""
    from nandlib.stages.ablation import write_selection

    write_selection(registered_study(study), progress())


@app.command(rich_help_panel=RESEARCH)
def harm(study: StudyName) -> None:
    """How well `nand check` foresees harm, from a study's image scores: figures/<study>/measure/harm.csv."""
    from nandlib.evaluation.harm import best_threshold, harm_summary, harm_table
    from nandlib.study.frames import read_scores

    opened = registered_study(study)
    table = harm_table(read_scores(opened.figures / "scores.parquet"))
    summary = harm_summary(table)
    opened.write_csv(summary, "measure/harm.csv")
    typer.echo(summary.round(1).to_string(index=False))
    typer.echo(f"best threshold here: {best_threshold(table):.0f} % of the detection lost")


@app.command("detector-selection", rich_help_panel=RESEARCH)
def detector_selection(study: StudyName = "validation") -> None:
    """The settings between which those of the trained detectors were chosen: figures/<study>/model/detector_selection.csv.

    It takes hours, writes every row that it finds, and goes on where it was; remove the file to begin anew.
    """
    from nandlib.evaluation.trained_selection import select_trained
    from nandlib.study.frames import read_table

    opened = registered_study(study)
    path = opened.figures / "model/detector_selection.csv"
    known = read_table(path) if path.is_file() else None
    for table in select_trained(opened, known, progress()):
        opened.write_csv(table, "model/detector_selection.csv")
    typer.echo(read_table(path).round(1).to_string(index=False))


@app.command("example-selection", rich_help_panel=RESEARCH)
def example_selection(
    studies: Annotated[list[str] | None, typer.Argument(help="on whose images; default: validation and pcb")] = None,
) -> None:
    """The values between which the parameters of normality by example were chosen: figures/<first study>/kshot/selection.csv."""
    from nandlib.evaluation.example_selection import select_examples

    opened = [registered_study(name) for name in studies or ("validation", "pcb")]
    table = select_examples(opened, progress())
    opened[0].write_csv(table, "kshot/selection.csv")
    typer.echo(table[table["chosen"]].round(2).to_string(index=False))


@app.command(rich_help_panel=RESEARCH)
def surface(
    source: Annotated[Path, typer.Argument(help="a cloud: .ply, .xyz, .obj, .npy, or an organised .tiff")],
    out: Annotated[
        Path,
        typer.Argument(
            help="where the moved points go: .ply, .xyz or .npy; beside it <out>_mask.npy (of every point that is written) and <out>.json"
        ),
    ],
    seed: Annotated[int, typer.Option(help="of the field")] = 0,
    strength: Annotated[float, typer.Option(help="greatest displacement, as a share of the diagonal; negative: inwards")] = 0.03,
    scale: Annotated[int, typer.Option(help="cells of the coarsest octave")] = 3,
    octaves: Annotated[int, typer.Option(help="of the Perlin field")] = 3,
    persistence: Annotated[float, typer.Option(help="height of each octave by the one before")] = 0.5,
    lacunarity: Annotated[int, typer.Option(help="cells of each octave by the one before")] = 2,
    threshold: Annotated[float, typer.Option(help="of the field in 0..1, above which the surface moves")] = 0.65,
) -> None:
    """Lay a Perlin anomaly on a point cloud: the moved cloud, which points have moved, and the parameters (3D-PNAS-style)."""
    import json

    import numpy as np

    from nandlib.surfaces.anomalies import PerlinAnomaly, displaced
    from nandlib.surfaces.clouds import read_cloud, write_cloud

    if same_file(out, [source]):
        raise DataError(f"{out} is the cloud itself, which would be lost: give another place")
    anomaly = PerlinAnomaly(seed, strength, scale, octaves, persistence, lacunarity, threshold)
    found = displaced(read_cloud(source), anomaly)
    write_cloud(found.cloud, out)
    grid = found.cloud.grid
    np.save(out.with_name(f"{out.stem}_mask.npy"), found.mask if grid is None else (grid >= 0) & found.mask[grid])
    said = {**anomaly.parameters, "points": len(found.cloud), "moved": int(found.mask.sum())}
    out.with_suffix(".json").write_text(json.dumps(said, indent=2) + "\n")
    typer.echo(f"{out}: {said['moved']} of {said['points']} points moved")


@app.command("signal-selection", rich_help_panel=RESEARCH)
def signal_selection(name: Annotated[str, typer.Argument(help="name of a study of signals")] = "heartbeat") -> None:
    """The settings between which those of normality by example in time were chosen, on made-up anomalies: figures/<name>/selection.csv."""
    from nandlib.evaluation.signal_selection import select_signals
    from nandlib.signals.config import SignalStudy
    from nandlib.stages.signals import splits_of
    from nandlib.study.open_kind import open_kind
    from nandlib.study.open_study import project_root

    study = open_kind(name, project_root(), SignalStudy)
    table = select_signals(splits_of(study, progress())["typed"].train.signals, study.config.nearest, progress())
    study.write_csv(table, "selection.csv")
    typer.echo(table.round(1).to_string(index=False))


@app.command("surface-selection", rich_help_panel=RESEARCH)
def surface_selection(name: Annotated[str, typer.Argument(help="name of a study of surfaces")] = "parts") -> None:
    """The settings between which a study of surfaces was tuned, on Perlin anomalies: figures/<name>/selection.csv, examples.csv."""
    from nandlib.evaluation.surface_selection import chosen_memory, select_memory, select_shown
    from nandlib.study.open_kind import open_kind
    from nandlib.study.open_study import project_root
    from nandlib.surfaces.config import SurfaceStudy
    from nandlib.surfaces.samples import split_of

    study = open_kind(name, project_root(), SurfaceStudy)
    normals = {part: split_of(part, study.config.data, study.root).train for part in study.config.parts}
    memories = select_memory(normals, progress())
    study.write_csv(memories, "selection.csv")
    shown = select_shown(normals, chosen_memory(memories), progress())
    study.write_csv(shown, "examples.csv")
    for table in (memories, shown):
        typer.echo(table[table["chosen"]].round(2).to_string(index=False))


@app.command(rich_help_panel=RESEARCH)
def seeds(
    study: StudyName,
    others: Annotated[list[str], typer.Argument(help="the same study with other seeds, after 'nand ablation'")],
) -> None:
    """Mean and spread over seeds of every step of the ablation: figures/<study>/plus/seeds.csv, seed_origins.csv."""
    from nandlib.evaluation.seeds import seed_origins, seed_table
    from nandlib.study.open_study import open_study

    opened = registered_study(study)
    every = [opened, *(open_study(name, opened.root) for name in others)]
    opened.write_csv(seed_table(every), "plus/seeds.csv")
    opened.write_csv(seed_origins(every), "plus/seed_origins.csv")


@app.command(rich_help_panel=RESEARCH)
def numbers(
    write: Annotated[bool, typer.Option("--write", help="write the pages' tables from the csv files, in place of checking them")] = False,
) -> None:
    """Every committed number made again from the committed csv files alone; exit code 1 where one differs."""
    from nandlib.evaluation.numbers import check_kind, check_numbers, derived_from
    from nandlib.show.contests import write_contests
    from nandlib.show.pages import PAGES, stale_tables, write_tables
    from nandlib.study.open_kind import KINDS, load_kind
    from nandlib.study.open_study import open_study, project_root
    from nandlib.study.place import Place
    from nandlib.study.registry import presets

    root, wrong = project_root(), 0
    for preset in presets(root):
        try:
            study = open_study(preset.stem, root)
        except NandError as error:
            typer.echo(f"{preset.name} is passed over: {error}", err=True)
            continue
        if derived_from(study):
            table = check_numbers(study)
            wrong += int((~table["agrees"]).sum())
            typer.echo(f"{study.name}\n{table.to_string(index=False)}")
    for preset in sorted((root / KINDS).glob("*.yaml")):
        place = Place(root, load_kind(preset.stem, root))
        if (place.figures / "scores.parquet").is_file():
            table = check_kind(place.figures, f"nand {place.config.kind} {place.name}")
            wrong += int((~table["agrees"]).sum())
            typer.echo(f"{place.name}\n{table.to_string(index=False)}")
    if write:
        write_tables(root)
        write_contests(root)
    stale = stale_tables(root)
    for page, name in stale:
        typer.echo(f"{page}: table '{name}' is not what the csv files give: 'nand numbers --write'")
    typer.echo(f"{len(PAGES)} pages: {'their tables agree' if not stale else f'{len(stale)} tables differ'}")
    if wrong or stale:
        raise typer.Exit(1)


@app.command(rich_help_panel=RESEARCH)
def wordings(study: StudyName, n_images: Annotated[int, typer.Option(min=8, help="held-out auxiliary images")] = 400) -> None:
    """Phrases held out of the embedded model's training against held-out images, and words shared with studies: figures/<study>/model/."""
    from nandlib.evaluation.overlap import overlap_table
    from nandlib.evaluation.wordings import wording_table
    from nandlib.models.mini import MiniModel
    from nandlib.study.model import model_of
    from nandlib.study.preset import HELD_OUT_SEED
    from nandlib.training.heads import collect_patches

    opened = registered_study(study)
    if opened.config.model.name != "mini":
        raise NandError(f"studies/{study}.yaml: model.name is '{opened.config.model.name}': only the embedded model has held-out wordings")
    model = model_of(opened)
    assert isinstance(model, MiniModel)  # by its name
    training = opened.config.model.training
    patches = collect_patches(HELD_OUT_SEED, n_images, progress(), drawing="shared" if training is None else training.drawing)
    opened.write_csv(wording_table(model, patches), "model/wordings.csv")
    opened.write_csv(overlap_table(), "model/overlap.csv")


model_app = typer.Typer(help="The embedded model's heads: those in the package, and newly trained ones.", no_args_is_help=True)
app.add_typer(model_app, name="model", rich_help_panel=RESEARCH)
Trained = Annotated[Path, typer.Argument(help="heads that 'make model' has trained")]


@model_app.command("compare")
def compare_model(source: Trained = Path("data/models/mini/heads.safetensors")) -> None:
    """Newly trained heads against those in the package: parameters, tokens, texts, suppression maps; as JSON."""
    from nandlib.training.boxed import compare, is_intact

    print_json({"package_intact": is_intact(), **compare(source)})


@model_app.command("pack")
def pack_model(
    seed: Annotated[int, typer.Option(help="with which they were trained")],
    n_images: Annotated[int, typer.Option(help="auxiliary images")],
    steps: Annotated[int, typer.Option(help="of the optimiser")],
    source: Trained = Path("data/models/mini/heads.safetensors"),
) -> None:
    """Put newly trained heads into the package, in half precision, with their provenance."""
    from nandlib.training.boxed import Recipe, pack

    typer.echo(pack(source, Recipe(seed, n_images, steps)))
