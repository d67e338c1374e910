"""Procedurally drawn images: the embedded data set `mini` and the auxiliary images that train the embedded model."""
