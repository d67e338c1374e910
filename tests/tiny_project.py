"""A copy of the project with the tiny study, which several test files look at."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from nandlib.show.notebooks import KERNEL

ROOT = Path(__file__).parents[1]
TEMPLATES = 'templates: ["a photo of a {}.", "a close-up photo of the {}.", "there is a {} in the scene."]\n'  # few: sentences take time
PLANTED = "planted-5f1b-never-to-be-seen"
SECRETS = {  # of the commands' environment, as users have them: tests/test_secrets.py looks for them in all that is written
    "OPENAI_API_KEY": PLANTED,
    "AWS_SECRET_ACCESS_KEY": PLANTED,
    "HF_TOKEN": PLANTED,
    "NAND_MIRROR": f"https://me:{PLANTED}@mirror.invalid/?token={PLANTED}",
}
WARM: dict[str, str] = {}  # environment of all commands, once the project is there


def run(project: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = (
        os.environ
        | WARM
        | SECRETS
        | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(project),
            "PYTHONWARNINGS": "ignore",
        }
    )
    result = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    if check and result.returncode:
        pytest.fail(f"{' '.join(command)}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}")
    return result


def make(project: Path) -> None:
    """Fill a folder that holds the library with the rest of the project, and run the tiny study once, from raw images to the report."""
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("notebooks", "studies/on_demand"):
        shutil.copytree(ROOT / name, project / name, ignore=ignore)
    for name in ("dvc.yaml", ".dvcignore", "pyproject.toml"):
        shutil.copy(ROOT / name, project / name)
    preset = (ROOT / "tests/tiny.yaml").read_text().replace("{file: mvtec_ad}", "{file: studies/prompts.yaml}")
    (project / "studies/tiny.yaml").write_text(preset)
    prompts = (ROOT / "nandlib/resources/prompts/mvtec_ad.yaml").read_text()
    (project / "studies/prompts.yaml").write_text(prompts + TEMPLATES)
    for path in (project / "nandlib/resources/prompts").glob("type_*.yaml"):  # which the sensitivity study takes instead
        path.write_text(path.read_text() + TEMPLATES)
    (project / "params.yaml").write_text("studies: {}\ndrawn: {}\nmodels: {}\n")
    run(project, "dvc", "init", "--no-scm", "-q")
    run(project, "nand", "use", "studies/tiny.yaml")
    done = run(project, "nand", "repro", "report@tiny", "studies/on_demand/dvc.yaml:sensitivity_notebook@tiny")
    (project / "run.log").write_text(done.stdout + done.stderr)


def executed(folder: Path, name: str, study: str = "mini") -> tuple[list[nbformat.NotebookNode], str]:
    """A notebook run without a front end: its outputs, none of them an error, and all that it showed as Markdown."""
    notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace('study = "mini"', f'study = "{study}"')
    kernel = AsyncKernelManager(kernel_name="python3")
    kernel.kernel_spec.argv = [*KERNEL, "--matplotlib=inline"]
    client = NotebookClient(notebook, km=kernel, timeout=120, resources={"metadata": {"path": str(folder)}})
    client.execute(env=os.environ | WARM)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not any(output.output_type == "error" for output in outputs)
    return outputs, "\n".join(output["data"].get("text/markdown", "") for output in outputs if "data" in output)
