"""Signals in time: the same question asked of a heartbeat. `records` reads them; `autoencoder` (MMAE-ECG-style, its network apart) and
`nearest` say where one is not normal; `shown` damps what examples show; `contest` takes them through the protocol of images."""
