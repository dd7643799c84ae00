"""2D Matryoshka sentence embeddings: one encoder that may be cut in layers and in dimensions when it is loaded."""
