"""The stages of the pipeline, one command each; `dvc repro` calls them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from nandlib.cli.app import STAGES, StudyName, app, progress, registered_study
from nandlib.errors import DataError

DrawingOption = Annotated[
    Literal["shared", "disjoint"], typer.Option(help="defects and words: as the embedded data set's, or sharing nothing with a study")
]


@app.command(rich_help_panel=STAGES)
def draw(study: StudyName) -> None:
    """Stage 'images': draw the embedded data set."""
    from nandlib.stages.images import draw_images

    draw_images(registered_study(study), progress())


@app.command(rich_help_panel=STAGES)
def manifest(study: StudyName) -> None:
    """Stage 'manifest': scan and check the images; prints what is odd but allowed."""
    from nandlib.stages.manifest import write_manifest

    for note in write_manifest(registered_study(study), progress()):
        typer.echo(note)


@app.command(rich_help_panel=STAGES)
def patches(
    out: Path,
    seed: Annotated[int, typer.Option(help="of the auxiliary images", min=0)] = 0,
    n_images: Annotated[int, typer.Option(help="number of auxiliary images", min=8)] = 6000,
    drawing: DrawingOption = "shared",
) -> None:
    """Stage 'patches': draw and encode the auxiliary images that train the embedded model."""
    from nandlib.stages.embedding import write_patches

    write_patches(out, seed=seed, n_images=n_images, drawing=drawing, progress=progress())


@app.command(rich_help_panel=STAGES)
def heads(
    source: Path,
    out: Path,
    seed: Annotated[int, typer.Option(help="of initialisation and batches", min=0)] = 0,
    steps: Annotated[int, typer.Option(help="of the optimiser", min=1)] = 1000,
    drawing: DrawingOption = "shared",
) -> None:
    """Stage 'heads': train the heads of the embedded model."""
    from nandlib.stages.embedding import write_heads

    write_heads(source, out, seed=seed, steps=steps, drawing=drawing, progress=progress())


@app.command(rich_help_panel=STAGES)
def similarities(study: StudyName) -> None:
    """Stage 'similarities': one forward pass an image; patch tokens against all texts of its class."""
    from nandlib.stages.similarities import write_similarities

    write_similarities(registered_study(study), progress())


@app.command(rich_help_panel=STAGES)
def maps(study: StudyName) -> None:
    """Stage 'maps': anomaly maps of WinCLIP, PatchCore and the detectors that are trained."""
    from nandlib.stages.maps import write_maps

    write_maps(registered_study(study), progress())


@app.command(rich_help_panel=STAGES)
def scores(study: StudyName) -> None:
    """Stage 'scores': image scores before and after adding each normality."""
    from nandlib.stages.scores import write_scores

    write_scores(registered_study(study), progress())


@app.command(rich_help_panel=STAGES)
def measure(study: StudyName) -> None:
    """Stage 'measure': controls, mask oracle, selectivity by pixel, type retrieval, decisions, pairs of groups."""
    from nandlib.stages.measure import write_measures

    write_measures(registered_study(study), progress())


@app.command(rich_help_panel=STAGES)
def ablation(study: StudyName) -> None:
    """Stage 'ablation': from the paper's rule to nand_plus, one change at a time."""
    from nandlib.stages.ablation import write_ablation

    write_ablation(registered_study(study), progress())


@app.command(rich_help_panel=STAGES)
def protocol(study: StudyName) -> None:
    """Stage 'protocol': AUROC before and after; checks the identity that they must obey."""
    from nandlib.stages.protocol import write_protocol

    write_protocol(registered_study(study))


@app.command(rich_help_panel=STAGES)
def notebook(
    name: Annotated[
        str,
        typer.Argument(help="item: the word after the number of notebooks/NN_ITEM_*.ipynb"),
    ],
    study: StudyName,
) -> None:
    """Execute the notebook of one item of the paper for one study."""
    from nandlib.errors import PresetError
    from nandlib.show.notebooks import execute
    from nandlib.study.open_kind import NOTEBOOKS, is_kind, load_kind
    from nandlib.study.open_study import project_root
    from nandlib.study.place import Place

    root = project_root()
    if not is_kind(study, root):
        if own := next((kind for kind, item in NOTEBOOKS.items() if item == name), None):
            raise PresetError(f"'{name}' is the notebook of studies of {own}, and '{study}' is none: 'nand study list' names them")
        execute(name, registered_study(study))
        return
    kind = load_kind(study, root)
    if name != NOTEBOOKS[kind.kind]:
        raise PresetError(f"'{name}' is no notebook of '{study}': 'nand notebook {NOTEBOOKS[kind.kind]} {study}'")
    execute(name, Place(root, kind))


@app.command(rich_help_panel=STAGES)
def report(study: StudyName) -> None:
    """Stage 'report': all executed notebooks as one self-contained page; of a study of another kind, its notebook."""
    from nandlib.show.report import write_kind_report, write_report
    from nandlib.study.open_kind import is_kind, load_kind
    from nandlib.study.open_study import project_root
    from nandlib.study.place import Place

    root = project_root()
    if is_kind(study, root):
        write_kind_report(Place(root, load_kind(study, root)))
    else:
        write_report(registered_study(study))


@app.command(rich_help_panel=STAGES)
def sensitivity(study: StudyName) -> None:
    """Stage 'sensitivity': every choice that the paper leaves open, set the other way; choice → mean Δ."""
    from nandlib.evaluation.sensitivity import sensitivity as vary

    opened = registered_study(study)
    opened.write_csv(vary(opened, progress()), "sensitivity/sensitivity.csv")


@app.command(rich_help_panel=STAGES)
def kshot(
    study: StudyName,
    draws: Annotated[int, typer.Option(help="draws of examples", min=1)] = 10,
    retrained: Annotated[int, typer.Option(help="of them with PatchCore fitted anew too", min=0)] = 1,
    every_detector: Annotated[bool, typer.Option("--every-detector", help="one example, for every detector of the study, instead")] = False,
) -> None:
    """Stage 'kshot': how many images is a text worth? Text, examples, both, or the images in PatchCore's memory: figures/<study>/kshot/."""
    from nandlib.stages.kshot import write_detectors, write_kshot

    if every_detector and retrained != 1:
        raise DataError(f"--retrained {retrained}: with --every-detector nothing is fitted anew: leave one of them out")
    opened = registered_study(study)
    table = write_detectors(opened, draws, progress()) if every_detector else write_kshot(opened, draws, retrained, progress())
    typer.echo(table.round(1).to_string(index=False))


@app.command(rich_help_panel=STAGES)
def robustness(
    study: StudyName,
    classes: Annotated[int, typer.Option(min=1, help="how many classes, the first ones")] = 3,
    most: Annotated[int, typer.Option(min=2, help="images of every group")] = 10,
) -> None:
    """Stage 'robustness': AUROC and what a text gains under bad light, blur, another view and noise: figures/<study>/robustness/."""
    from nandlib.evaluation.robustness import robustness as measure_robustness

    opened = registered_study(study)
    opened.write_csv(measure_robustness(opened, opened.classes()[:classes], most, progress()), "robustness/robustness.csv")


@app.command(rich_help_panel=STAGES)
def signals(name: Annotated[str, typer.Argument(help="name of a study of signals: studies/kinds/<name>.yaml")]) -> None:
    """Stage of a study of signals: detection of records and points, and normality by example: figures/<name>/."""
    from nandlib.signals.config import SignalStudy
    from nandlib.stages.signals import write_signals
    from nandlib.study.open_kind import open_kind
    from nandlib.study.open_study import project_root

    write_signals(open_kind(name, project_root(), SignalStudy), progress())


@app.command(rich_help_panel=STAGES)
def surfaces(name: Annotated[str, typer.Argument(help="name of a study of surfaces: studies/kinds/<name>.yaml")]) -> None:
    """Stage of a study of surfaces: detection of objects and points, and normality by example: figures/<name>/."""
    from nandlib.stages.surfaces import write_surfaces
    from nandlib.study.open_kind import open_kind
    from nandlib.study.open_study import project_root
    from nandlib.surfaces.config import SurfaceStudy

    write_surfaces(open_kind(name, project_root(), SurfaceStudy), progress())


@app.command(rich_help_panel=STAGES)
def dependencies() -> None:
    """Derive the code dependencies of all stages anew (dvc.yaml, studies/on_demand/dvc.yaml); 'make lint' says when to."""
    from nandlib.study.dependencies import write_dependencies
    from nandlib.study.open_study import project_root

    for path in write_dependencies(project_root()):
        typer.echo(f"{path}: written anew")
