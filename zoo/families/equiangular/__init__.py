"""Equiangular basis vectors: a classifier of images or texts whose head is a fixed geometry, with room for new classes."""
