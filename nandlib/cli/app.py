"""The application that all commands belong to, and what they share."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

ADAPT, STUDIES, RESEARCH, STAGES = "Use it on your images", "Studies", "Research", "Stages of the pipeline (dvc repro calls them)"

app = typer.Typer(
    help="The reproducible study of NAND: normality addition via normality detection.",
    epilog="Exit codes: 0 done; 1 something given is wrong, and the message on stderr says what, where and how to mend it; 2 the command "
    "line itself is wrong. With --json, stdout holds one JSON document and nothing else. Progress goes to stderr, on a terminal only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
StudyName = Annotated[str, typer.Argument(help="name of a study: studies/<name>.yaml")]
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable")]


def progress() -> bool:
    """Whether to show progress bars: on a terminal only."""
    return sys.stderr.isatty()


def same_file(path: Path, others: Iterable[Path]) -> bool:
    """Whether a path is one of the others, by another name or not (a link, other capitals where they do not count)."""
    try:
        if not path.exists():
            return path.resolve() in {other.resolve() for other in others}
        return any(other.exists() and path.samefile(other) for other in others)
    except OSError:  # whoever writes there says what is wrong
        return False


def registered_study(name: str) -> Any:
    """A study that `nand use` has entered into params.yaml."""
    from nandlib.study.open_study import project_root
    from nandlib.study.registry import registered

    return registered(name, project_root())


def image_study(name: str) -> Any:
    """A study of images, registered or not."""
    from nandlib.errors import PresetError
    from nandlib.study.open_kind import is_kind, load_kind
    from nandlib.study.open_study import open_study, project_root

    if is_kind(name, root := project_root()):
        raise PresetError(f"'{name}' is a study of {load_kind(name, root).kind}: give one of images")
    return open_study(name, root)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as JSON can hold them: a missing number is null."""
    return json.loads(table.to_json(orient="records"))


def print_json(content: Any) -> None:
    """One JSON document on stdout: a missing number is null."""
    typer.echo(json.dumps(_without_nan(content), indent=2, ensure_ascii=False, allow_nan=False))


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
