"""The command line: `nand use` registers a study; the other commands are the stages of the pipeline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nandlib.errors import NandError
from nandlib.memory import keep_freed_memory

app = typer.Typer(
    help="The reproducible study of NAND: normality addition via normality detection.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
HELD_OUT_SEED = 424242  # of auxiliary images that train no model
StudyName = Annotated[str, typer.Argument(help="name of a study: studies/<name>.yaml")]


def _progress() -> bool:
    return sys.stderr.isatty()


def _study(name: str) -> Any:
    from nandlib.pipeline import registered
    from nandlib.study import project_root

    return registered(name, project_root())


@app.command()
def use(preset: Annotated[Path, typer.Argument(help="studies/<name>.yaml")]) -> None:
    """Enter a study preset into params.yaml, so that 'dvc repro' runs it. Prints the study's name."""
    from nandlib.pipeline import register
    from nandlib.study import project_root

    typer.echo(register(preset, project_root()))


@app.command()
def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="sources; 'nand doctor' lists them")] = None,
    study: Annotated[str | None, typer.Option(help="everything that this study still needs")] = None,
    local: Annotated[list[Path] | None, typer.Option("--from", help="folder, archive or checkpoint that you have; may be repeated")] = None,
    accept_licences: Annotated[bool, typer.Option("--accept-licences", help="accept the licences that are shown")] = False,
) -> None:
    """Bring weights and data to their places: from this machine where they are, else from the network; always verified."""
    from nandlib.errors import DataError
    from nandlib.pipeline import missing_files, read_registry
    from nandlib.sources import Source, source, source_of
    from nandlib.sources import fetch as fetch_source
    from nandlib.study import open_study, project_root

    root = project_root()
    entries = [source(name) for name in names or ()]
    if study is not None:
        needed = missing_files(open_study(study, root), read_registry(root)).values()
        entries += [entry for path in needed if (entry := source_of(path)) is not None]
    if not entries:
        typer.echo("nothing to fetch")

    def accept(entry: Source) -> bool:
        typer.echo(f"{entry.title}\n  licence: {entry.licence}")
        return accept_licences or (sys.stdin.isatty() and typer.confirm("  Do you accept it?"))

    for place in local or ():
        if not place.exists():
            raise DataError(f"--from {place}: there is no such folder or file")
    problems = []
    for entry in entries:
        try:
            typer.echo(fetch_source(entry, root, local=local or (), accept=accept, progress=_progress()))
        except NandError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))


@app.command()
def doctor(
    study: Annotated[str | None, typer.Argument(help="exit with 1 unless this study has all that it needs")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
) -> None:
    """Environment, device, weights and data, disk space, and what each study still needs."""
    import json

    from nandlib.doctor import describe, examine
    from nandlib.errors import PresetError, nearest
    from nandlib.study import project_root

    report = examine(project_root())
    if study is not None and study not in report["studies"]:
        raise PresetError(f"no study '{study}': {nearest(study, report['studies'])}")
    typer.echo(json.dumps(report, indent=2) if as_json else describe(report))
    if study is not None and not report["studies"][study]["ready"]:
        raise typer.Exit(1)


@app.command()
def draw(study: StudyName) -> None:
    """Stage 'images': draw the embedded data set."""
    from nandlib.stages.data import draw_images

    draw_images(_study(study), _progress())


@app.command()
def manifest(study: StudyName) -> None:
    """Stage 'manifest': scan and check the images; prints what is odd but allowed."""
    from nandlib.stages.data import write_manifest

    for note in write_manifest(_study(study), _progress()):
        typer.echo(note)


@app.command()
def patches(
    out: Path,
    seed: Annotated[int, typer.Option(help="of the auxiliary images")] = 0,
    n_images: Annotated[int, typer.Option(help="number of auxiliary images")] = 6000,
) -> None:
    """Stage 'patches': draw and encode the auxiliary images that train the embedded model."""
    from nandlib.stages.embedding import write_patches

    write_patches(out, seed=seed, n_images=n_images, progress=_progress())


@app.command()
def heads(
    source: Path,
    out: Path,
    seed: Annotated[int, typer.Option(help="of initialisation and batches")] = 0,
    steps: Annotated[int, typer.Option(help="of the optimiser")] = 1000,
) -> None:
    """Stage 'heads': train the heads of the embedded model."""
    from nandlib.stages.embedding import write_heads

    write_heads(source, out, seed=seed, steps=steps, progress=_progress())


@app.command("train-projections")
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

    from nandlib.config import RANDOM, PromptConfig
    from nandlib.errors import ModelError
    from nandlib.models import Placement
    from nandlib.models.clip import ClipModel
    from nandlib.models.projection_training import MaskedImages
    from nandlib.models.projection_training import train_projections as train
    from nandlib.prompts import load_prompts

    if clip_weights == RANDOM:
        raise ModelError("--clip-weights: projections for random weights would be no use: name CLIP's own")
    model = ClipModel.load(RANDOM, clip_weights, Placement(device, precision))  # its projections are not used
    images = MaskedImages(root, model, mosaic, seed)
    projections, losses = train(
        model, load_prompts(PromptConfig()), images, epochs=epochs, batch_size=batch_size, seed=seed, progress=_progress()
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


@app.command("generate-prompts")
def generate_prompts(
    study: Annotated[str, typer.Argument(help="name of a study: its classes and types are asked for")],
    out: Annotated[Path, typer.Argument(help="prompt file to write, .yaml; answers are recorded beside it")],
) -> None:
    """Ask a language model for phrases by the paper's request; address, model and key come from OPENAI_* variables."""
    from nandlib.prompt_generator import generate
    from nandlib.study import open_study, project_root

    opened = open_study(study, project_root())
    phrases = generate(opened.types(), out, progress=_progress())
    typer.echo(f"{out}: {sum(len(p) for types in phrases.values() for p in types.values())} phrases; set prompts.file to it")


@app.command()
def benchmark(
    study: StudyName,
    images: Annotated[int, typer.Option(min=1, help="images per pass")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="passes of each kind")] = 3,
) -> None:
    """Seconds an image of the whole study against a bare pass of the image tower, in one run, as JSON."""
    import json

    from nandlib.benchmark import image_cost

    typer.echo(json.dumps(image_cost(_study(study), images, repeats), indent=2))


@app.command()
def similarities(study: StudyName) -> None:
    """Stage 'similarities': one forward pass an image; patch tokens against all texts of its class."""
    from nandlib.stages.similarities import write_similarities

    write_similarities(_study(study), _progress())


@app.command()
def maps(study: StudyName) -> None:
    """Stage 'maps': anomaly maps of WinCLIP and PatchCore."""
    from nandlib.stages.maps import write_maps

    write_maps(_study(study), _progress())


@app.command()
def scores(study: StudyName) -> None:
    """Stage 'scores': image scores before and after adding each normality."""
    from nandlib.stages.scores import write_scores

    write_scores(_study(study), _progress())


@app.command()
def measure(study: StudyName) -> None:
    """Stage 'measure': controls, mask oracle, selectivity by pixel, type retrieval, decisions, pairs of groups."""
    from nandlib.stages.measure import write_measures

    write_measures(_study(study), _progress())


@app.command()
def ablation(study: StudyName) -> None:
    """Stage 'ablation': from the paper's rule to nand_plus, one change at a time."""
    from nandlib.stages.ablation import write_ablation

    write_ablation(_study(study), _progress())


@app.command()
def selection(study: StudyName = "validation") -> None:
    """The values between which the parameters of nand_plus were chosen, on the products of that study."""
    from nandlib.stages.ablation import write_selection

    write_selection(_study(study), _progress())


@app.command()
def seeds(
    study: StudyName,
    others: Annotated[list[str], typer.Argument(help="the same study with other seeds, after 'nand ablation'")],
) -> None:
    """Mean and spread over seeds of every step of the ablation: figures/<study>/plus/seeds.csv."""
    from nandlib.seeds import seed_table
    from nandlib.study import open_study

    opened = _study(study)
    opened.write_csv(seed_table([opened, *(open_study(name, opened.root) for name in others)]), "plus/seeds.csv")


@app.command()
def wordings(study: StudyName, n_images: Annotated[int, typer.Option(help="held-out auxiliary images")] = 400) -> None:
    """Phrases held out of the embedded model's training, against held-out auxiliary images: figures/<study>/model/wordings.csv."""
    from nandlib.models.training import collect_patches
    from nandlib.wordings import wording_table

    opened = _study(study)
    if opened.config.model.name != "mini":
        raise NandError(f"studies/{study}.yaml: model.name is '{opened.config.model.name}': only the embedded model has held-out wordings")
    opened.write_csv(wording_table(opened.model, collect_patches(HELD_OUT_SEED, n_images, _progress())), "model/wordings.csv")


@app.command()
def sensitivity(study: StudyName) -> None:
    """Stage 'sensitivity': every choice that the paper leaves open, set the other way; choice → mean Δ."""
    from nandlib.sensitivity import sensitivity as vary

    opened = _study(study)
    opened.write_csv(vary(opened, _progress()), "sensitivity/sensitivity.csv")


@app.command()
def protocol(study: StudyName) -> None:
    """Stage 'protocol': AUROC before and after; checks the identity that they must obey."""
    from nandlib.stages.protocol import write_protocol

    write_protocol(_study(study))


@app.command()
def notebook(
    name: Annotated[
        str, typer.Argument(help="item: fig1, table1, fig2, fig3, table2, table3, fig5, paper, measure, plus, failures, sensitivity")
    ],
    study: StudyName,
) -> None:
    """Execute the notebook of one item of the paper for one study."""
    from nandlib.notebooks import execute

    execute(name, _study(study))


@app.command()
def report(study: StudyName) -> None:
    """Stage 'report': all executed notebooks as one self-contained page."""
    from nandlib.report import write_report

    write_report(_study(study))


def main() -> None:
    """Entry point: an error of the user's making is one clear message and exit code 1, not a traceback."""
    keep_freed_memory()
    try:
        app()
    except NandError as error:
        typer.secho(f"nand: {error}", fg=typer.colors.RED, err=True)
        sys.exit(1)
