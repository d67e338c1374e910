"""Names of other libraries that are not public, and on which this package leans: where one is gone, the message says what to mend."""

import inspect

import pytest
from anomalib.models.image.winclip.torch_model import WinClipModel
from open_clip.transformer import VisionTransformer

WINCLIP = (
    "nandlib/detectors/winclip.py overrides it: compare the new WinClipModel with EncodedWinClip and RepairedWinClip, then rename there"
)
NEEDED = [
    (WinClipModel, "_get_window_embeddings", ["self", "feature_map", "masks"], WINCLIP),
    (WinClipModel, "_collect_text_embeddings", ["self", "class_name"], WINCLIP),
    (WinClipModel, "_generate_masks", ["self"], WINCLIP),
    (
        VisionTransformer,
        "_global_pool",
        ["self", "x"],
        "RepairedWinClip pools windows with it: use the class token, what open_clip's forward does now",
    ),
]


@pytest.mark.parametrize(
    ("owner", "name", "parameters", "what_to_do"), NEEDED, ids=lambda x: x if isinstance(x, str) and " " not in x else ""
)
def test_private_names_are_still_there(owner, name, parameters, what_to_do):
    found = getattr(owner, name, None)
    assert found is not None, f"{owner.__name__}.{name} is gone. {what_to_do}"
    assert list(inspect.signature(found).parameters)[: len(parameters)] == parameters, f"{owner.__name__}.{name} has changed. {what_to_do}"
