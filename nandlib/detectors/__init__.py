"""Base detectors: each maps images to raw anomaly maps, larger is more anomalous.

`base` says what a detector is; `aprilgan`, `winclip` and `patchcore` are the paper's three. `uniad`, `onenip`, `pbas` and `pradot` are
trained here, on what `features` gives; what they share is in `fitted` (state, floor, classes) and `training` (epochs, resuming), and their
papers' equations are in `uniad_network`, `onenip_network`, `pbas_equations` and `pradot_transport`, with `tokens`, `rebuilt` and
`synthesis` shared between them.
"""
