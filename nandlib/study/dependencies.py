"""Which code and package files every stage depends on, derived from imports: nobody types them, so nobody forgets one.

A stage starts at the command of `nandlib.cli.stages` that it calls, or at the notebook that it executes. What these import, directly or
not, it depends on.
"""

from __future__ import annotations

import ast
import json
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from nandlib import PUBLIC
from nandlib.errors import PresetError
from nandlib.study.fingerprint import import_closure, module_path

PIPELINES = (Path("dvc.yaml"), Path("studies/on_demand/dvc.yaml"))
COMMANDS = "nandlib.cli.stages"
FILES_OF = {  # module → what it reads of the package without being told by a preset
    "nandlib.data.published": ("sources.yaml",),
    "nandlib.evaluation.paper": ("groups/mvtec_ad.yaml", "paper"),
    "nandlib.evaluation.sensitivity": ("prompts/type_name.yaml", "prompts/type_templates.yaml"),
    "nandlib.heard": ("auxiliary_phrases.yaml",),
    "nandlib.method.prompts": ("defect_bank.yaml", "prompts/aprilgan.yaml"),
    "nandlib.show.report": ("report.html.jinja",),
    "nandlib.training.vocabulary": ("prompts",),
}


def imported(tree: ast.AST) -> list[str]:
    """Modules of the package that a piece of code imports, also inside functions."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "nandlib":
            found += [PUBLIC[alias.name] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if _is_module(name) else node.module for name in inner]
    return sorted({name for name in found if name.startswith("nandlib.")})


def _is_module(name: str) -> bool:
    return name.startswith("nandlib.") and module_path(name).is_file()


def entry_modules(command: str, notebooks: Path) -> list[str]:
    """The modules with which a stage's command starts.

    Args:
        command: As in ``dvc.yaml``: ``nand <command> …``.
        notebooks: The folder of notebooks.

    Raises:
        PresetError: If there is no such command or notebook, several of it, or one that holds more than Python.
    """
    words = command.partition("${nand} ")[2].split()
    tree = ast.parse(module_path(COMMANDS).read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and words and node.name == words[0]]
    if not functions or (words[0] == "notebook" and len(words) < 2):
        raise PresetError(f"cmd '{command}': a stage calls '${{nand}} <command>', one of those in nandlib/cli/stages.py")
    found = imported(functions[0])
    if words[0] == "notebook":
        paths = list(notebooks.glob(f"[0-9][0-9]_{words[1]}_*.ipynb"))
        if len(paths) != 1:
            raise PresetError(f"cmd '{command}': {notebooks} holds {len(paths)} notebooks NN_{words[1]}_<word>.ipynb, and needs one")
        cells = json.loads(paths[0].read_text(encoding="utf-8"))["cells"]
        try:
            code = [ast.parse("".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]
        except SyntaxError as error:
            raise PresetError(
                f"{paths[0]}: no plain Python ({(error.text or error.msg).strip()}): leave magics out of a stage's notebook"
            ) from error
        found += [name for cell in code for name in imported(cell)]
    return sorted(set(found))


def code_dependencies(command: str, notebooks: Path) -> list[str]:
    """Paths, relative to the project, of the code and the package files that a stage's command depends on."""
    closure = import_closure(*entry_modules(command, notebooks))
    package = module_path("nandlib").parent
    code = [module_path(module) for module in closure if module != "nandlib"]
    with_imports = [path for path in code if path.name != "__init__.py" or "import" in path.read_text(encoding="utf-8")]
    paths = [path.relative_to(package).as_posix() for path in with_imports]
    paths += [f"resources/{name}" for module, names in FILES_OF.items() if module in closure for name in names]
    return sorted(f"nandlib/{path}" for path in paths)


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width = 200
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def derive(pipeline: Path, notebooks: Path) -> Any:
    """The content of a pipeline file with the code dependencies of every stage derived anew; all else as it is."""
    content = _yaml().load(pipeline.read_text(encoding="utf-8"))
    for stage in content["stages"].values():
        body = stage.get("do", stage)
        kept = [path for path in body.get("deps", ()) if not path.startswith("nandlib/")]
        body["deps"] = [*kept, *code_dependencies(body["cmd"], notebooks)]
    return content


def write_dependencies(root: Path) -> list[Path]:
    """Bring the pipelines of a project up to date with the code; returns the files that changed."""
    changed = []
    for name in PIPELINES:
        text = StringIO()
        _yaml().dump(derive(root / name, root / "notebooks"), text)
        if text.getvalue() != (root / name).read_text(encoding="utf-8"):
            (root / name).write_text(text.getvalue(), encoding="utf-8")
            changed.append(name)
    return changed
