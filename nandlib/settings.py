"""What all settings are made of: frozen sections that refuse unknown keys, and YAML files."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict
from ruamel.yaml import YAML

from nandlib.errors import PresetError, nearest

RESOURCES = Path(__file__).parent / "resources"  # files that come with the package
EMBEDDED_HEADS = RESOURCES / "models" / "mini.safetensors"  # of the embedded model; mini.json says where they come from
RANDOM = Path("random")  # in place of a file of weights: exercises the code path; never results


T = TypeVar("T", bound=Hashable)


def each_once(values: tuple[T, ...] | None) -> tuple[T, ...] | None:
    """Values of a list of a preset, as they are.

    Raises:
        ValueError: If one is there twice: it would count twice.
    """
    twice = [value for number, value in enumerate(values or ()) if value in (values or ())[:number]]
    if twice:
        raise ValueError(f"'{twice[0]}' is there twice")
    return values


class Section(BaseModel):
    """A section of a preset: frozen; an unknown key is an error, and so is a number that is none, or infinite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    weight_fields: ClassVar[tuple[str, ...]] = ()  # that say where files of weights lie


def read_yaml(path: Path) -> Any:
    """A YAML 1.2 file as plain dictionaries and lists.

    Raises:
        PresetError: If the file is missing or is not YAML.
    """
    try:
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        siblings = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise PresetError(f"{path} does not exist: {nearest(path.name, siblings)}") from None
    except Exception as error:  # of a library that trusts what it reads
        raise PresetError(f"{path} is not valid YAML: {str(error).partition('To suppress')[0].strip()}") from error


def resource(kind: str, name: str) -> Path:
    """Path of a YAML file given by path (relative to the working directory or to a folder above it: a notebook's is ``notebooks/``),
    or by the name of one that comes with the package.

    Raises:
        PresetError: If there is neither.
    """
    if name.endswith((".yaml", ".yml")):
        here = Path.cwd()
        return next((folder / name for folder in here.parents if not Path(name).is_file() and (folder / name).is_file()), Path(name))
    path = RESOURCES / kind / f"{name}.yaml"
    if not path.is_file():
        raise PresetError(f"no {kind} file '{name}' in the package: {nearest(name, sorted(p.stem for p in path.parent.glob('*.yaml')))}")
    return path
