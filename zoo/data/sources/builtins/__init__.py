"""Builtin data sets, one module each; see zoo/data/sources/builtin.py."""
