"""How long the explorer takes from a new text to the new page."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from nandlib.show.explorer.widget import Explorer
from nandlib.study.open_study import OpenStudy


def text_latency(study: OpenStudy, n_texts: int = 60) -> pd.DataFrame:
    """How long the explorer takes from a new text to the new page, on the study's largest class.

    The texts are phrases that the explorer has not seen: other classes' phrases, each once. Image features are computed before.

    Args:
        study: That has been run.
        n_texts: Texts a method.

    Returns:
        One row a method: method, class, images, texts, median_ms, p95_ms, worst_ms, share_below_300_ms.
    """
    class_name = str(study.manifest.query("split == 'test'").groupby("class").size()[study.classes()].idxmax())
    explorer = Explorer(study.name, class_name, texts=["scratch"], root=study.root)
    phrases = [p for c, groups in study.test_groups().items() for g, t in groups.items() for p in study.prompts.group_phrases(c, g, t)]
    fresh = list(dict.fromkeys(phrases))[:: max(1, len(set(phrases)) // n_texts)][:n_texts]
    rows = []
    for method in explorer.gallery.methods:
        explorer.method.value = method
        taken = []
        for k, phrase in enumerate(fresh):
            start = time.perf_counter()
            explorer.texts.value = [f"{phrase} {method} {k}"]
            taken.append(1000 * (time.perf_counter() - start))
        times = np.array(taken)
        rows.append(
            {
                "method": method,
                "class": class_name,
                "images": len(explorer.gallery.names),
                "texts": len(times),
                "median_ms": np.median(times).round(),
                "p95_ms": np.percentile(times, 95).round(),
                "worst_ms": times.max().round(),
                "share_below_300_ms": (times < 300).mean(),
            }
        )
    return pd.DataFrame(rows)
