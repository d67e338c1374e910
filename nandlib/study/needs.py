"""What a study needs of images, weights and words that are not made here: what is missing, what is damaged, and what to do.

Keys are those of the preset, so that a message names the line that a reader can change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nandlib.data.published import Source, source_of
from nandlib.data.sources import state, why_changed, wrong_images
from nandlib.settings import EMBEDDED_HEADS, RANDOM
from nandlib.study.open_study import OpenStudy


def missing_files(study: OpenStudy, registry: Mapping[str, Any]) -> dict[str, Path]:
    """Key of the preset → path, of the images, weights, groups and prompts that are neither there nor made by the pipeline."""
    config = study.config
    made = {Path(f"data/models/{name}/heads.safetensors") for name in registry.get("models") or {}} | {RANDOM}
    made |= {config.model.weights or EMBEDDED_HEADS} if config.model.training is not None else set()
    made |= {Path(own["root"]) for key, own in (registry.get("drawn") or {}).items() if key != study.name}
    named = config.weight_files() if config.data.drawn is not None else {"data.root": config.data.root, **config.weight_files()}
    words = {"data.groups": config.data.groups, "prompts.file": config.prompts.file}  # those of the package are there
    named |= {key: Path(name) for key, name in words.items() if name.endswith((".yaml", ".yml"))}
    return {key: path for key, path in named.items() if path not in made and not (study.root / path).exists()}


def damaged_files(study: OpenStudy, state_of: Callable[[Source, Path], str] = state) -> dict[str, str]:
    """Key of the preset → what is wrong, and what to do, of images and weights that are there: found before any long stage runs.

    Args:
        study: What names them. Classes that it leaves out may be missing from a known data set.
        state_of: What is known of a source's place; whoever looks at several studies remembers it, since large files are hashed.
    """
    from nandlib.models.checkpoints import unreadable  # wants torch, which a list of studies does not

    found, data = {}, study.config.data
    for key, path in {"data.root": data.root, **study.config.weight_files()}.items():
        place, entry, why = study.root / path, source_of(path), ""
        if path == RANDOM or not place.exists():
            continue
        if entry is not None and entry.images:
            why = wrong_images(entry, study.root, data.left_out(entry.images))
        elif entry is not None and state_of(entry, study.root) in ("changed", "missing"):  # missing: of its parts, some
            why = why_changed(entry, study.root)
        elif key != "data.root" and (reason := unreadable(place)):
            how = "give other weights" if entry is None else f"delete it, and 'nand fetch {entry.name}'"
            why = f"holds no weights that can be read ({reason}): {how}"
        if why:
            found[key] = f"{path} {why}"
    return found


def leaks(study: OpenStudy) -> dict[str, str]:
    """Key of the preset → why weights of a known source say nothing on these images: they were trained on them."""
    images, found = getattr(source_of(study.config.data.root), "name", ""), {}
    for key, path in study.config.weight_files().items():
        if (entry := source_of(path)) is not None and images in entry.trained_on:
            found[key] = f"{path} was trained on {images}, the images of this study: results would say nothing"
    return found


def where_from(path: Path) -> str:
    """What to do about a path that is missing, in a few words."""
    if (entry := source_of(path)) is None:
        return "put it there, or change the preset"
    return f"put it there, from {entry.urls[0]}" if entry.install == "by_hand" else f"nand fetch {entry.name}"


def asked_for(missing: Mapping[str, Path], name: str) -> str:
    """What to do about all that a study misses (`missing_files`), a screen at most."""
    lines, fetched = [f"studies/{name}.yaml names {len(missing)} file(s) or folder(s) that are not here:"], False
    for key, path in missing.items():
        entry = source_of(path)
        lines.append(f"  {key}: {path}")
        if entry is None:
            lines.append(f"      put it there (or a link to it), or change {key}")
            continue
        lines.append(f"      {entry.describe()}; from {entry.urls[0]}")
        if entry.install == "by_hand":
            lines.append(f"      get it there, and put it at {entry.path} (or a link to it)")
        else:
            fetched, unpacked = True, " or what was unpacked from it" if entry.images else ""
            lines.append(f"      nand fetch {entry.name}              downloads it, or, without a network,")
            lines.append(f"      nand fetch {entry.name} --from PATH  takes {entry.file or ', '.join(entry.parts)}{unpacked}")
    return "\n".join([*lines, *([f"All at once: nand fetch --study {name}"] if fetched else [])])
