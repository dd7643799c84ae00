"""Vectors to packed codes of a few bits a component, and back to vectors that are searched with float queries."""
