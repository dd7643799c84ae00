"""Measures that mteb does not have, computed on arrays."""
