"""Helpers that know nothing of embeddings: errors, atomic files, YAML with line numbers, hardware. Imports nothing of zoo."""
