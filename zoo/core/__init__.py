"""Helpers that know nothing about embeddings: errors, atomic files, YAML with positions, hardware. Imports only this folder."""
