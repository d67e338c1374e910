"""Which studies `dvc repro` runs: the registry in ``params.yaml``, derived from the presets."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from nandlib.data.held import held, written
from nandlib.errors import DataError, NandError, PresetError
from nandlib.settings import EMBEDDED_HEADS, RANDOM, RESOURCES, read_yaml, resource
from nandlib.study.fingerprint import file_digest
from nandlib.study.needs import asked_for, damaged_files, leaks, missing_files
from nandlib.study.open_kind import KINDS, NOTEBOOKS, is_kind, load_kind
from nandlib.study.open_study import OpenStudy, open_study, preset_path
from nandlib.study.preset import load_study

NO_WEIGHTS = "nandlib/models/checkpoints.py"  # what DVC watches where weights are random
HEADER = """# What `dvc repro` runs. Written by `nand use studies/<name>.yaml` (or `make study STUDY=...`), never by hand:
# per study the files that its preset names and DVC must watch. `compared` have the paper's
# classes; `models` are the embedded models and how they are trained.
"""


def _relative(path: Path, root: Path) -> str:
    whole, home = (root / path).resolve(), root.resolve()
    return whole.relative_to(home).as_posix() if whole.is_relative_to(home) else path.as_posix()


def registry_entry(study: OpenStudy) -> dict[str, str]:
    """The paths that one preset names, relative to the project."""
    config = study.config
    groups = Path("nandlib/data/groups.py") if config.data.groups == "types" else _shipped(resource("groups", config.data.groups))
    return {
        "root": config.data.root.as_posix(),
        "weights": NO_WEIGHTS
        if config.model.weights == RANDOM
        else _relative(_shipped(config.model.weights or EMBEDDED_HEADS), study.root),
        "prompts": _relative(_shipped(resource("prompts", config.prompts.file)), study.root),
        "groups": _relative(groups, study.root),
    }


def _shipped(path: Path) -> Path:
    return Path("nandlib/resources") / path.relative_to(RESOURCES) if path.is_relative_to(RESOURCES) else path


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width = 200
    return yaml


def read_registry(root: Path) -> dict[str, Any]:
    """The content of ``params.yaml``.

    Raises:
        PresetError: If it is not there, cannot be read (a merge may have left its marks in it), or holds no registry.
    """
    path, found = root / "params.yaml", None
    with suppress(FileNotFoundError, YAMLError, UnicodeDecodeError):
        found = _yaml().load(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise PresetError(f"{path} holds no registry of studies: bring it back ('git checkout params.yaml')")
    return found


def presets(root: Path) -> list[Path]:
    """The study presets in ``studies/``: files there that have a preset's keys (prompts and groupings may lie beside them), and those that
    cannot be read, of which `open_study` says why."""
    return [path for path in sorted((root / "studies").glob("*.yaml")) if _may_be_preset(path)]


def _may_be_preset(path: Path) -> bool:
    try:
        content = read_yaml(path)
    except NandError:
        return True
    return isinstance(content, dict) and bool({"data", "detectors"} & set(content))


def register(given: str | Path, root: Path) -> str:
    """Enter a preset, given as `preset_path` takes it, into ``params.yaml`` and return the study's name.

    Raises:
        PresetError: If the preset is not valid or does not lie in ``studies/``.
        DataError: If files or folders that it names are not there; one message lists all of them. Or if another process registers one.
    """
    preset = preset_path(given, root)
    if preset.parent.resolve() == (root / KINDS).resolve() or (not preset.is_file() and is_kind(preset.stem, root)):
        kind = load_kind(preset.stem, root).kind
        commands = " && ".join(f"nand {words} {preset.stem}" for words in (kind, f"notebook {NOTEBOOKS[kind]}", "report"))
        raise PresetError(f"'{preset.stem}' is a study of {kind}, which are run so: {commands}")
    name = load_study(preset).name
    if preset.resolve().parent != (root / "studies").resolve():
        raise PresetError(f"{preset} must lie in {root / 'studies'}: dvc.yaml looks for studies/<name>.yaml")
    study = open_study(name, root)
    _check_files(study, read_registry(root))
    _write(study, root)
    return name


def _write(study: OpenStudy, root: Path) -> None:
    entry = registry_entry(study) | {"fetched": _fetched(study)}
    with held(root / ".dvc" / "tmp" / "registry"):  # of two that write it at once, the second would undo the first
        _enter(study, entry, root)


def renew(root: Path) -> list[str]:
    """Enter anew the hashes of weights that lie in files, where one was replaced since its study was registered; the studies' names."""
    found = []
    for name, entry in (read_registry(root).get("studies") or {}).items():
        known = dict(entry.get("fetched") or {})
        if set(known.values()) - {"random"} and (root / "studies" / f"{name}.yaml").is_file():
            with suppress(NandError):  # an invalid preset is said when its own study is run
                study = open_study(name, root)
                if not missing_files(study, read_registry(root)) and _fetched(study) != known:
                    _write(study, root)  # also what cannot be read: its stage says so when it runs
                    found.append(name)
    return found


def _enter(study: OpenStudy, entry: dict[str, Any], root: Path) -> None:
    name, registry = study.name, read_registry(root)
    known = dict(registry.get("studies") or {})
    known = {key: own for key, own in known.items() if (root / "studies" / f"{key}.yaml").is_file()} | {name: entry}  # others are gone
    registry["studies"] = known
    drawn = {key: dict(value) for key, value in (registry.get("drawn") or {}).items() if key != name and key in known}
    if study.config.data.drawn is not None:
        drawn[name] = {"root": study.config.data.root.as_posix()}
    registry["drawn"] = drawn
    compared = {key: True for key in (registry.get("compared") or {}) if key != name and key in known}
    registry["compared"] = compared | ({name: True} if study.compared else {})
    models = dict(registry.get("models") or {})
    for model, training in _training(study).items():
        if model in models and dict(models[model]) != training:
            others = [key for key, own in known.items() if key != name and own["weights"] == f"data/models/{model}/heads.safetensors"]
            if others or model == "mini":  # the package's own
                raise PresetError(
                    f"studies/{name}.yaml: model.training: data/models/{model} is trained otherwise for "
                    f"{', '.join(others) or 'the package'}: give model.weights another folder"
                )
        registry["models"] = models | {model: training}

    def content(partial: Path) -> None:
        with partial.open("w", encoding="utf-8") as file:
            file.write(HEADER)
            _yaml().dump({key: registry[key] for key in ("studies", "drawn", "compared", "models")}, file)

    written(root / "params.yaml", content)


def _training(study: OpenStudy) -> dict[str, dict[str, Any]]:
    """Name of the model that the study trains for itself → how; empty where it trains none."""
    training, weights = study.config.model.training, study.config.model.weights
    return {} if training is None or weights is None else {weights.parent.name: training.model_dump()}


def _fetched(study: OpenStudy) -> dict[str, str]:
    """Key of the preset → hash of each file of weights that is not trained here: DVC watches them as parameters."""
    files = {key: study.resolve(path) for key, path in study.config.weight_files().items() if key != "model.weights"}
    return {key: "random" if path == RANDOM else file_digest(path) for key, path in files.items()}


def _check_files(study: OpenStudy, registry: dict[str, Any]) -> None:
    """Raise if files that the preset names are not there: DVC would stop at the first, without saying what to do."""
    config, preset = study.config, f"studies/{study.name}.yaml"
    if is_kind(study.name, study.root):
        raise PresetError(f"{preset}: a study of another kind is called '{study.name}' already (studies/kinds): give this one another name")
    own = Path("data") / study.name / "images"
    if config.data.drawn is not None and config.data.root != own:
        raise PresetError(f"{preset}: data.root must be '{own}': a study with data.drawn owns (and overwrites) that folder")
    written, images = (study.root / own.parent).resolve(), (study.root / config.data.root).resolve()
    if written.is_relative_to(images):
        raise PresetError(
            f"{preset}: data.root '{config.data.root}' holds {own.parent}, which the study itself writes to: put the images somewhere "
            f"else, data/sets/{study.name} for example, or give the study another name"
        )
    for other, entry in (registry.get("studies") or {}).items():
        if other != study.name and (study.root / entry["root"]).resolve().is_relative_to(written) and Path(entry["root"]) != own:
            raise PresetError(
                f"{preset}: the study would write into data/{study.name}, where the images of '{other}' are ({entry['root']}): give it "
                "another name"
            )
    if config.model.training is not None:
        weights = config.model.weights
        if config.model.name != "mini" or weights is None or weights != Path("data/models") / weights.parent.name / "heads.safetensors":
            raise PresetError(f"{preset}: model.training needs name: mini and weights: data/models/<name>/heads.safetensors")
    if config.model.name == "clip" and (lacking := [key for key, path in config.required_for_clip().items() if path is None]):
        each = "the file's path (or 'random')" if len(lacking) == 1 else "a file's path (or 'random') for each"
        raise PresetError(f"{preset}: {', '.join(lacking)}: missing; the full-size study needs {each}")
    if missing := missing_files(study, registry):
        raise DataError(asked_for(missing, study.name))
    for wrong, error in ((damaged_files(study), DataError), (leaks(study), PresetError)):
        if wrong:
            raise error("\n".join(f"{preset}: {key}: {why}" for key, why in wrong.items()))


def registered(name: str, root: Path) -> OpenStudy:
    """The study, if ``params.yaml`` says the same of it as its preset.

    Raises:
        PresetError: If it is not registered, or its preset names other files by now.
    """
    preset = preset_path(name, root)
    if preset.resolve().parent != (root / "studies").resolve():
        raise PresetError(f"{name} does not lie in {root / 'studies'}: its results would take the place of a study's of that name")
    study, registry = open_study(preset, root), read_registry(root)
    name = study.name  # of a preset that was given by its path
    entry, training = (registry.get("studies") or {}).get(name), _training(study)
    known = {model: dict(own) for model, own in (registry.get("models") or {}).items() if model in training}
    if entry is None or {key: value for key, value in entry.items() if key != "fetched"} != registry_entry(study) or known != training:
        raise PresetError(f"params.yaml is out of step with studies/{name}.yaml: run 'nand use studies/{name}.yaml' first")
    return study
