"""A study: its preset, its files, and the maps that follow from them."""
