"""Does the embedded model understand words that it was not trained with? Held-out phrases against held-out auxiliary images."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from nandlib import heard
from nandlib.data.drawn.auxiliary import FAMILIES
from nandlib.method.config import PromptConfig
from nandlib.method.detection import text_feature
from nandlib.method.prompts import load_prompts
from nandlib.models.mini import LAYER_STARTS, MiniModel
from nandlib.training.heads import N_FAMILIES, PatchSet

COLUMNS = ["family", "phrase", "held_out", "nearest", "rank", "retrieval_auroc"]


@torch.no_grad()
def wording_table(model: MiniModel, patches: PatchSet) -> pd.DataFrame:
    """Every phrase, `COLUMNS`.

    Args:
        model: A trained embedded model.
        patches: Of auxiliary images that did not train it.

    Returns:
        ``nearest``: the family whose training phrases are nearest to the phrase in the space of the text features, ``rank`` that of the
        phrase's own family (1: nearest; a phrase that trained the model is taken out of its family first). ``retrieval_auroc``: whether
        the similarity (mean over layers) with the phrase ranks patches of its own family above those of all others (percent; 50 is
        chance).
    """
    prompts = load_prompts(PromptConfig(file="aprilgan"))
    names = list(FAMILIES)

    def feature(phrases: list[str]) -> Tensor:
        return text_feature(model, prompts.fill(phrases), prompts)

    own_features = {name: {phrase: feature([phrase]) for phrase in heard.phrases()[name]["train"]} for name in names}
    defects = patches.labels < N_FAMILIES
    labels = patches.labels[defects].numpy()
    channels = patches.channels[defects].float()
    token = torch.stack([model.heads.project(layer, channels) for layer in range(len(LAYER_STARTS))]).mean(0)
    rows = []
    for index, name in enumerate(names):
        for kind, phrases in heard.phrases()[name].items():
            for phrase in phrases:
                text = own_features[name][phrase] if kind == "train" else feature([phrase])
                kept = {n: [f for p, f in known.items() if p != phrase] for n, known in own_features.items()}
                centres = torch.stack([torch.nn.functional.normalize(torch.stack(kept[n]).mean(0), dim=0) for n in names])
                closeness = centres @ text
                rank = 1 + int((closeness > closeness[index]).sum())
                is_own = labels == index
                auroc = 100 * roc_auc_score(is_own, (token @ text).numpy()) if is_own.any() else np.nan
                rows.append((name, phrase, kind == "held_out", names[int(closeness.argmax())], rank, auroc))
    return pd.DataFrame(rows, columns=COLUMNS)
