"""A bit for each component, the signs, with an optional byte for each component that rescores the best candidates."""
