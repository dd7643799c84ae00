"""Builtin data sets, one module each; see `zoo/data/sources/builtin.py`. A module whose name begins with `_` is a helper."""
