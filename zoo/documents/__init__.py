"""Vectors and codes of documents that are learned from raw text: words, the trainer, its loops, and what is built on them."""
