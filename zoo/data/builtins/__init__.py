"""Builtin data sets, one module each; see zoo/data/builtin.py."""
