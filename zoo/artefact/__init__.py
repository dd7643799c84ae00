"""The model folder: how it is written, its manifest, and the checks before anything in it is opened."""
