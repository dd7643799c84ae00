"""How healthy the vectors of an encoder are, mostly without labels: figures, and a verdict in words."""
