"""How long things take: ratios measured in one run, never asserted by a test."""
