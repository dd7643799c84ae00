"""Text backbones: loading, tokenising, pooling, bulk encoding, and the sentence-transformers format."""
