"""Studies: what is here, what is missing, run one, compare two."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from nandlib.cli.app import STUDIES, AsJson, app, image_study, print_json, progress, records
from nandlib.errors import NandError, PresetError
from nandlib.warm import warm_processes


@app.command(rich_help_panel=STUDIES)
def use(preset: Annotated[str, typer.Argument(help="studies/<name>.yaml, or the name")]) -> None:
    """Enter a study preset into params.yaml, so that 'dvc repro' runs it. Prints the study's name."""
    from nandlib.study.open_study import project_root
    from nandlib.study.registry import register

    typer.echo(register(preset, project_root()))


@app.command(rich_help_panel=STUDIES)
def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="sources; 'nand doctor' lists them")] = None,
    study: Annotated[str | None, typer.Option(help="everything that this study still needs")] = None,
    local: Annotated[list[Path] | None, typer.Option("--from", help="folder, archive or checkpoint that you have; may be repeated")] = None,
    accept_licences: Annotated[bool, typer.Option("--accept-licences", help="accept the licences that are shown")] = False,
) -> None:
    """Bring weights and data to their places: from this machine where they are, else from the network; always verified."""
    from nandlib.data.published import Source, source, source_of
    from nandlib.data.sources import fetch as fetch_source
    from nandlib.errors import DataError
    from nandlib.study.needs import damaged_files, missing_files
    from nandlib.study.open_study import open_study, project_root
    from nandlib.study.registry import read_registry

    root = project_root()
    entries = [source(name) for name in names or ()]
    problems = []
    if study is not None:
        opened = open_study(study, root)
        missing = missing_files(opened, read_registry(root))
        problems += list(dict.fromkeys(damaged_files(opened).values()))  # several keys may name one file
        needed = dict.fromkeys(missing.values())  # several keys may name one file
        entries += [entry for path in needed if (entry := source_of(path)) is not None]
        if own := [f"{key}: {path}" for key, path in missing.items() if source_of(path) is None]:
            typer.echo(f"not here, and of no known source (put it there yourself): {'; '.join(own)}", err=True)
    if not entries and not problems:
        typer.echo("nothing to fetch")

    def accept(entry: Source) -> bool:
        typer.echo(f"{entry.title}\n  licence: {entry.licence}")
        return accept_licences or (sys.stdin.isatty() and typer.confirm("  Do you accept it?"))

    for place in local or ():
        if not place.exists():
            raise DataError(f"--from {place}: there is no such folder or file")
    for entry in entries:
        try:
            typer.echo(fetch_source(entry, root, local=local or (), accept=accept, progress=progress()))
        except NandError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))


@app.command(rich_help_panel=STUDIES)
def doctor(
    study: Annotated[str | None, typer.Argument(help="exit with 1 unless this study has all that it needs")] = None,
    as_json: AsJson = False,
) -> None:
    """Environment, device, weights and data, disk space, and what each study still needs."""
    import json

    from nandlib.errors import PresetError, nearest
    from nandlib.study.doctor import describe, examine
    from nandlib.study.open_kind import is_kind, load_kind
    from nandlib.study.open_study import project_root

    root = project_root()
    report = examine(root)
    if study is not None and is_kind(study, root):
        kind = load_kind(study, root)
        raise PresetError(f"'{study}' is a study of {kind.kind}: 'nand {kind.kind} {study}' runs it, or says what it needs")
    if study is not None and study not in report["studies"]:
        raise PresetError(f"no study '{study}': {nearest(study, report['studies'])}")
    typer.echo(json.dumps(report, indent=2) if as_json else describe(report))
    if study is not None and not report["studies"][study]["ready"]:
        raise typer.Exit(1)


data_app = typer.Typer(help="What a folder of images holds.", no_args_is_help=True)
app.add_typer(data_app, name="data", rich_help_panel=STUDIES)


@data_app.command("check")
def check_data(
    folder: Annotated[Path, typer.Argument(help="of a data set with typed anomalies")],
    layout: Annotated[str, typer.Option(help="auto, or a layout's name")] = "auto",
    sheet: Annotated[Path | None, typer.Option(help="write a page with pictures of every type: an .html file")] = None,
) -> None:
    """Which layout a folder has, what it holds, what is missing, and how to mend it; exit code 1 if a class cannot be used, or none has
    two groups of anomalies, so that no study can be run."""
    from nandlib.errors import DataError
    from nandlib.show.data_sheet import DataSheet

    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    if sheet is not None and sheet.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"--sheet {sheet}: the page is an .html file")
    found = DataSheet.of(folder, layout, progress())
    typer.echo(found)
    if sheet is not None:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        sheet.write_text(found.page(), encoding="utf-8")
        typer.echo(f"pictures: {sheet}")
    if found.damaged or not found.protocol:
        raise typer.Exit(1)


study_app = typer.Typer(help="List studies, run one, compare two.", no_args_is_help=True)
app.add_typer(study_app, name="study", rich_help_panel=STUDIES)


@study_app.command("list")
def list_studies(as_json: AsJson = False) -> None:
    """All presets: what they are, whether they can be run, whether they have been; last those of signals and surfaces."""
    from nandlib.evaluation.verify import has_been_run
    from nandlib.study.needs import missing_files
    from nandlib.study.open_kind import KINDS, load_kind
    from nandlib.study.open_study import open_study, project_root
    from nandlib.study.registry import presets, read_registry

    root = project_root()
    registry, rows = read_registry(root), list[dict[str, Any]]()
    for preset in presets(root):
        try:
            study = open_study(preset.stem, root)
        except NandError as error:
            rows.append({"name": preset.stem, "title": None, "state": "invalid", "problem": str(error)})
            continue
        missing = [str(path) for path in missing_files(study, registry).values()]
        done = (study.figures / "detectors.csv").is_file()
        state = "needs files" if missing else "ready to run"
        if done:
            state = "has been run" if has_been_run(study) else "results came along"
        rows.append({"name": study.name, "title": study.config.title, "state": state, "missing": missing})
    for preset in sorted((root / KINDS).glob("*.yaml")):
        try:
            kind = load_kind(preset.stem, root)
        except NandError as error:
            rows.append({"name": preset.stem, "title": None, "state": "invalid", "problem": str(error)})
            continue
        state = "results are here" if any((root / "figures" / kind.name).glob("*.csv")) else f"nand {kind.kind} {kind.name}"
        rows.append({"name": kind.name, "title": kind.title, "state": state, "missing": []})
    if as_json:
        print_json(rows)
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        typer.echo(f"{row['name']:{width}}  {row['state']:22}  {row['problem'].splitlines()[0] if 'problem' in row else row['title']}")
    typer.echo("\n'nand study run NAME' runs one of images, and 'nand doctor NAME' says what it still needs.")


@study_app.command("run")
def run_study(
    study: Annotated[str, typer.Argument(help="name of a study, or studies/<name>.yaml")],
    target: Annotated[str, typer.Option(help="stage to run up to: report, table2, fig5, …")] = "report",
    engine: Annotated[Literal["local", "ray"] | None, typer.Option(help="where networks run; default: the preset's")] = None,
    address: Annotated[str | None, typer.Option(help="of a running Ray cluster; default: the preset's, or one on this machine")] = None,
) -> None:
    """Run a study up to its report: what 'make study' does. What has not changed is not computed again."""
    from nandlib.study.open_study import project_root
    from nandlib.study.registry import register

    root = project_root()
    name = register(study, root)
    _pass_on_a_cluster(name, root, engine, address)
    _reproduce([f"{target}@{name}"], root)
    page = root / "figures" / name / "report.html"
    typer.echo(f"tables and figures: figures/{name}" + (" (start with report.html)" if target == "report" and page.is_file() else ""))


def _pass_on_a_cluster(name: str, root: Path, engine: str | None, address: str | None) -> None:
    """If that is wanted, what the stages would let pass through networks here."""
    from nandlib.study.open_study import open_study

    study = open_study(name, root)
    asked, model = study.config.engine, study.config.model
    if (engine or asked.name) != "ray":
        if address:
            raise PresetError(f"--address {address} is that of a Ray cluster: give --engine ray too")
        return
    from nandlib.data.held import held
    from nandlib.streaming.cluster import Cluster
    from nandlib.streaming.passes import run_passes

    heads = [f"studies/on_demand/dvc.yaml:heads@{model.weights.parent.name}"] if model.training and model.weights else []
    _reproduce([*heads, f"manifest@{name}"], root)
    with held(root / ".dvc" / "tmp"):
        cluster = Cluster(address or asked.address, asked.workers, asked.threads, gpus=0 if model.device == "cpu" else 1)
        run_passes(study, cluster, progress())


@app.command(rich_help_panel=STUDIES, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def repro(context: typer.Context) -> None:
    """Do what 'dvc repro' does with the same arguments, faster: its stages and notebooks find the slow imports done."""
    from nandlib.study.open_study import project_root

    _reproduce(context.args, project_root())


def _reproduce(arguments: list[str], root: Path) -> None:
    import os
    import subprocess

    from nandlib.data.held import held
    from nandlib.study.mend import mend
    from nandlib.study.registry import renew

    own = Path(sys.executable).parent  # where `nand` is, also if this environment is not activated
    with held(root / ".dvc" / "tmp"), warm_processes() as warm:  # one run of a project's studies at a time
        for name in renew(root):
            typer.echo(f"'{name}': a file of weights was replaced: what depends on it runs again", err=True)
        for path in mend(root):
            typer.echo(f"{path} was cut off when a run was killed: what DVC can read of it is kept, the rest runs again", err=True)
        environment = os.environ | warm | {"PATH": f"{own}{os.pathsep}{os.environ.get('PATH', '')}"}
        code = subprocess.run([sys.executable, "-m", "dvc", "repro", *arguments], cwd=root, env=environment, check=False).returncode
    if code:
        raise NandError(f"dvc repro {' '.join(arguments)} ended with code {code}: its last lines above say why")


@study_app.command("compare")
def compare_studies(
    first: Annotated[str, typer.Argument(metavar="A", help="name of a study that has been run")],
    second: Annotated[str, typer.Argument(metavar="B", help="name of another")],
    groups: Annotated[bool, typer.Option("--groups", help="every group, not the means over classes")] = False,
    as_json: AsJson = False,
) -> None:
    """Tables of two studies side by side with differences (B less A), and the settings in which they differ."""
    from nandlib.show.tables import markdown
    from nandlib.study.compare import compare, differing_settings

    a, b = image_study(first), image_study(second)
    if a.name == b.name:
        raise PresetError(f"'{a.name}' twice: name two studies")
    table, settings = compare(a, b, "groups" if groups else "detectors"), differing_settings(a, b)
    if as_json:
        print_json({"first": first, "second": second, "settings": {k: list(v) for k, v in settings.items()}, "rows": records(table)})
        return
    keys = [column for column in ("detector", "class", "group") if column in table]
    for value in [column.removesuffix("_difference") for column in table.columns if column.endswith("_difference")]:
        part = table[[*keys, *(column for column in table.columns if column.startswith(f"{value}_"))]]
        part.columns = [*keys, a.name, b.name, "difference"]
        typer.echo(f"{value} (percent; difference: B less A)\n\n{markdown(part)}")
    typer.echo("Settings that differ:" if settings else "The presets differ in nothing.")
    for key, (one, other) in settings.items():
        typer.echo(f"  {key}: {one} | {other}")


@study_app.command("verify")
def verify_study(
    name: Annotated[str, typer.Argument(metavar="STUDY", help="name of a study that has been run")],
    against: Annotated[Path | None, typer.Option(help="folder with the expected tables; default: what git has of figures/<study>")] = None,
    beside: Annotated[Path | None, typer.Option(help="csv to write: means of every detector, as expected and as computed here")] = None,
    as_json: AsJson = False,
) -> None:
    """Whether the results agree with the expected ones: largest difference of every table; exit code 1 if one is too large."""
    from nandlib.evaluation import verify as verification

    study = image_study(name)
    table = verification.verify(study, against)
    if beside is not None:
        verification.beside(study, against).to_csv(beside, index=False)
    if as_json:
        print_json(records(table))
    else:
        for row in table.to_dict("records"):
            found = f"largest difference {row['largest_difference']:.2g}" + (f" ({row['at']})" if row["at"] else "")
            verdict = "agrees" if row["agrees"] else "DIFFERS"
            typer.echo(f"{verdict:8} {row['file']:22} {row['values']:4} values, {found}, tolerance {row['tolerance']:g}")
    if not table["agrees"].all():
        raise typer.Exit(1)
