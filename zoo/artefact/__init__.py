"""The model folder: writing it, its manifest, and the checks before any of its files is opened."""
