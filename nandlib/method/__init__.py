"""The method: the paper's equations, what improves on them, texts, and `add_normality`."""
