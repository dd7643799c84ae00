"""The command line. Each verb is a thin function over the Python API."""
