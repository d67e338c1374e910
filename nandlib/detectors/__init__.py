"""Base detectors: each maps images to raw anomaly maps, larger is more anomalous.

`base` says what a detector is and reads maps from disk; `aprilgan`, `winclip` and `patchcore` are the paper's three.
"""
