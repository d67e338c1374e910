"""Which extra brings a package that is missing: using the method needs none, studies need ``nandlib[study]``."""

from __future__ import annotations

EXTRAS = {  # names as they are imported; a test compares with pyproject.toml
    "study": (
        *(
            "IPython",
            "albumentations",
            "bs4",
            "cv2",
            "dvc",
            "grimp",
            "ipycanvas",
            "ipykernel",
            "ipywidgets",
            "jinja2",
            "jupyterlab",
            "latex2mathml",
            "nbclient",
        ),
        *("nbconvert", "nbformat", "nbstripout", "pandera", "papermill", "psutil", "pygments", "requests", "seaborn"),
        *("statsmodels", "tabulate", "trimesh", "urllib3", "voila", "wfdb"),
    ),
    "check": ("mapie",),
    "ray": ("ray",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "docs": ("pdoc",),
}


def advice(error: ModuleNotFoundError) -> str | None:
    """A line that says which extra to install; None if the missing module belongs to no extra."""
    missing = (error.name or "").split(".")[0]
    for extra, packages in EXTRAS.items():
        if missing in packages:
            return f"'{missing}' is not installed: this needs the extra '{extra}': pip install \"nandlib[{extra}]\""
    return None
