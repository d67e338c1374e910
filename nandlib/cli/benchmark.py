"""The command that measures: what a study, a detector or many images cost, in one run."""

from __future__ import annotations

from typing import Annotated

import typer

from nandlib.cli.app import RESEARCH, StudyName, app, print_json, progress, records, registered_study
from nandlib.errors import DataError


@app.command(rich_help_panel=RESEARCH)
def benchmark(
    study: StudyName,
    images: Annotated[int | None, typer.Option(min=1, help="images per pass; default: 2")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="passes of each kind; default: 3")] = None,
    texts: Annotated[bool, typer.Option("--texts", help="how fast the explorer answers: figures/<study>/model/explorer.csv")] = False,
    normality: Annotated[bool, typer.Option("--normality", help="cost of a text and of examples: figures/<study>/kshot/cost.csv")] = False,
    stages: Annotated[bool, typer.Option("--stages", help="time and memory of every stage: figures/<study>/model/stages.csv")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="images a second of 'nand apply': figures/<study>/model/apply.csv")] = False,
    scale: Annotated[bool, typer.Option("--scale", help="memory for many images: figures/<study>/model/scale.csv")] = False,
    coreset: Annotated[bool, typer.Option("--coreset", help="PatchCore's memory by shards: figures/<study>/model/coreset.csv")] = False,
    precision: Annotated[bool, typer.Option("--precision", help="settings of full-size CLIP: figures/<study>/model/precision.csv")] = False,
    gpu: Annotated[bool, typer.Option("--gpu", help="how well images fill a GPU: figures/<study>/model/gpu.csv")] = False,
    edge: Annotated[bool, typer.Option("--edge", help="what detectors ask of a small device: figures/<study>/edge/edge.csv")] = False,
    detectors: Annotated[
        bool, typer.Option("--detectors", help="what detectors cost and find: figures/<study>/model/detectors.csv")
    ] = False,
) -> None:
    """Seconds an image of the whole study against a bare pass of the image tower, in one run; or another cost, if named. As JSON."""
    asked = (texts, normality, stages, apply, scale, coreset, precision, gpu, edge, detectors)
    if sum(asked) > 1:
        raise DataError("one benchmark at a time: give one of these options, and run the command again for another")
    if any(asked) and not images is repeats is None:
        raise DataError("--images and --repeats are those of the whole study's seconds: leave them out beside another benchmark")
    opened = registered_study(study)
    if texts:
        from nandlib.benchmarks.texts import text_latency

        table, path = text_latency(opened), "model/explorer.csv"
    elif normality:
        from nandlib.benchmarks.normality import normality_cost

        table, path = normality_cost(opened), "kshot/cost.csv"
    elif stages:
        from nandlib.benchmarks.stages import stage_times

        table, path = stage_times(opened), "model/stages.csv"
    elif apply:
        from nandlib.benchmarks.streaming import streaming_rates

        table, path = streaming_rates(opened), "model/apply.csv"
    elif scale:
        from nandlib.benchmarks.memory import memory

        table, path = memory(), "model/scale.csv"
    elif coreset:
        from nandlib.benchmarks.coreset import coreset_difference

        table, path = coreset_difference(opened, progress()), "model/coreset.csv"
    elif precision:
        from nandlib.benchmarks.precision import PATH, precision_costs

        table, path = precision_costs(opened), PATH
    elif gpu:
        from nandlib.benchmarks.gpu import gpu_rates

        table, path = gpu_rates(opened), "model/gpu.csv"
    elif edge:
        from nandlib.benchmarks.edge import edge_cost

        table, path = edge_cost(opened), "edge/edge.csv"
    elif detectors:
        from nandlib.benchmarks.detectors import detector_cost

        table, path = detector_cost(opened), "model/detectors.csv"
    else:
        from nandlib.benchmarks.images import image_cost

        print_json(image_cost(opened, images or 2, repeats or 3))
        return
    opened.write_csv(table, path)
    print_json(records(table))
