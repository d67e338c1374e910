"""What is here and what is missing: environment, device, weights and data, disk, and what each study still needs."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from nandlib.data.published import source_of, sources
from nandlib.data.sources import state
from nandlib.errors import DataError, NandError, PresetError
from nandlib.models.base import why_not
from nandlib.study.needs import damaged_files, missing_files, where_from
from nandlib.study.open_study import open_study
from nandlib.study.registry import presets, read_registry, registry_entry

PACKAGES = ("torch", "torchvision", "open_clip_torch", "anomalib", "timm", "transformers", "scikit-learn", "dvc", "papermill", "jupyterlab")


def _packages(root: Path) -> dict[str, dict[str, str | None]]:
    """Installed and pinned version of the packages that numbers depend on."""
    lines = (root / "constraints.txt").read_text().split() if (root / "constraints.txt").is_file() else []
    pinned = {name.lower().replace("_", "-"): pin for name, pin in (line.split("==") for line in lines)}
    found: dict[str, dict[str, str | None]] = {}
    for name in PACKAGES:
        try:
            here: str | None = version(name)
        except PackageNotFoundError:
            here = None
        found[name] = {"installed": here, "pinned": pinned.get(name.lower().replace("_", "-"))}
    return found


def _device() -> dict[str, Any]:
    memory = psutil.virtual_memory()
    gpus = [torch.cuda.get_device_properties(k) for k in range(torch.cuda.device_count())]
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(memory.total / 1e9, 1),
        "memory_free_gb": round(memory.available / 1e9, 1),
        "gpus": [{"name": gpu.name, "memory_gb": round(gpu.total_memory / 1e9, 1)} for gpu in gpus],
    }


def examine(root: Path) -> dict[str, Any]:
    """Everything that `nand doctor` says, as JSON can hold it.

    Returns:
        ``python``, ``platform``, ``packages``, ``device``, ``disk_free_gb``, ``sources`` (name → title, path, state) and
        ``studies`` (name → missing: key → path and the source that has it; or problem: why the preset cannot be read).
    """
    studies: dict[str, Any] = {}
    states = {name: state(entry, root) for name, entry in sources().items()}
    registry = read_registry(root)
    for preset in presets(root):
        try:
            study = open_study(preset.stem, root)
            registry_entry(study)  # which names files of the package too
            if why := why_not(study.config.model.device):
                raise PresetError(f"studies/{study.name}.yaml: model.device '{study.config.model.device}' cannot be used here ({why})")
            missing = missing_files(study, registry)
            if damaged := damaged_files(study, lambda entry, _: states[entry.name]):
                raise DataError("\n".join(f"{key}: {why}" for key, why in damaged.items()))
            needs = {key: {"path": str(path), "source": getattr(source_of(path), "name", None)} for key, path in missing.items()}
            studies[preset.stem] = {"ready": not needs, "missing": needs}
        except NandError as error:
            studies[preset.stem] = {"ready": False, "problem": str(error)}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _packages(root),
        "device": _device(),
        "disk_free_gb": round(shutil.disk_usage(root).free / 1e9, 1),
        "sources": {
            name: {"title": entry.title, "path": str(entry.path), "state": states[name], "megabytes": entry.megabytes}
            for name, entry in sources().items()
        },
        "studies": studies,
    }


def describe(report: dict[str, Any]) -> str:
    """The report of `examine` for people."""
    device = report["device"]
    gpus = ", ".join(f"{gpu['name']} ({gpu['memory_gb']} GB)" for gpu in device["gpus"]) or "none (the CPU is used)"
    lines = [
        f"Python {report['python']} on {report['platform']}",
        f"{device['cores']} cores, {device['memory_gb']} GB memory ({device['memory_free_gb']} GB free), GPU: {gpus}",
        f"{report['disk_free_gb']} GB of disk free",
        "",
        "Packages",
    ]
    for name, found in report["packages"].items():
        pin = found["pinned"]
        note = "MISSING" if found["installed"] is None else "" if pin in (None, found["installed"]) else f"(tested with {pin})"
        lines.append(f"  {name:18} {found['installed'] or '–':12} {note}".rstrip())
    lines += ["", "Weights and data that are not made here"]
    for name, entry in report["sources"].items():
        found = entry["state"] + (f", about {entry['megabytes']} MB" if entry["state"] == "missing" and entry["megabytes"] else "")
        lines.append(f"  {name:24} {found:26} {entry['path']}")
    lines += ["", "Studies"]
    for name, study in report["studies"].items():
        if "problem" in study:
            first, *others = study["problem"].splitlines()
            lines += [f"  {name:24} {first}", *(f"  {'':24} {line}" for line in others)]
            continue
        lines.append(f"  {name:24} {'ready' if study['ready'] else 'needs'}")
        for key, need in study["missing"].items():
            lines.append(f"      {key}: {need['path']} ({where_from(Path(need['path']))})")
    return "\n".join(lines)
