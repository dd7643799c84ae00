"""`python -m zoo_runtime FOLDER`: check a folder and recompute its canaries."""

from __future__ import annotations

import sys

from .errors import PackError
from .model import open_model


def main(words: list[str]) -> int:
    """Return 0 if the folder gives the vectors of the original model, 1 if not, and 2 for wrong arguments."""
    if len(words) != 1:
        sys.stderr.write("usage: python -m zoo_runtime FOLDER\n")
        return 2
    try:
        found = open_model(words[0]).verify()
    except PackError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    verdict = "the same space" if found.is_same else "NOT the same space"
    sys.stdout.write(
        f"{verdict}: mean cosine {found.mean_cosine:.5f}, lowest {found.lowest_cosine:.5f}, largest difference "
        f"{found.largest_difference:.2g}\n"
    )
    return 0 if found.is_same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
