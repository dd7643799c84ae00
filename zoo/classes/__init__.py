"""Classifiers of images and texts: towers, class vectors in a file, new classes, measures and pictures of what was learned."""
