"""Losses and tensor functions that two or more families share."""
