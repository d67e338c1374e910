"""Training: the embedded model's heads, and APRIL-GAN's projections for CLIP."""
