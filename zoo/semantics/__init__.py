"""Texts in a space of named concepts: the list of concepts, the towers that read, the space, and what its scores are made of."""
