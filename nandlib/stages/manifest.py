"""Scan and check a study's images."""

from __future__ import annotations

from nandlib.data.manifest import build_manifest
from nandlib.data.published import check_images, source_of
from nandlib.errors import DataError
from nandlib.evaluation.origin import type_origins
from nandlib.study.open_study import OpenStudy


def write_manifest(study: OpenStudy, progress: bool = True) -> list[str]:
    """Scan and check the images; write ``manifest.csv`` and ``manifest_notes.txt``. Returns the notes.

    Everything that the preset says of the data is checked here, before any long stage runs; of a data set with published numbers of images,
    these, so that no half of it passes for the whole.

    Raises:
        DataError: If the preset and the images do not agree, or images are missing.
    """
    if (entry := source_of(study.config.data.root)) is not None:
        check_images(study.images, entry, study.config.data.left_out(entry.images or ()))
    manifest, notes = build_manifest(study.images, study.config.data, study.grouping, progress)
    study.data.mkdir(parents=True, exist_ok=True)
    manifest.to_csv(study.data / "manifest.csv", index=False)
    (study.data / "manifest_notes.txt").write_text("".join(note + "\n" for note in notes))
    try:
        study.example()
    except DataError as error:
        if skipped := [note for note in notes if note.startswith("skipped")]:
            raise DataError(f"{error}\n{len(skipped)} images were left out, such as: {skipped[0]}") from error
        raise
    type_origins(study)
    for class_name, groups in study.test_groups().items():
        for group, types in groups.items():
            study.prompts.group_phrases(class_name, group, types)
    return notes
