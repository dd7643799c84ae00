"""Opening a saved model imports no training, and none of the large libraries that its family encodes without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

GOLDEN = Path(__file__).parents[1] / "golden"
HEAVY = ("sentence_transformers", "transformers", "sklearn", "pandas", "datasets", "peft")
WITH_TRANSFORMERS = {"late-interaction", "vlm2vec"}
"""Families that encode with modules of transformers or sentence-transformers."""
TEXTS = ("dense", "lbl2vec", "matryoshka-2d", "sesa", "static", "binary-pv")


def test_families_open_and_encode_without_large_libraries():
    families = sorted({path.name for path in GOLDEN.iterdir() if path.is_dir()} - WITH_TRANSFORMERS)
    code = (
        "import sys, zoo\n"
        f"for family in {families}:\n"
        f"    encoder = zoo.from_pretrained(f'{GOLDEN}/{{family}}/model')\n"
        f"    if family in {TEXTS}: encoder.encode(['the dog', 'a cat'])\n"
        f"    print(family, *(name for name in {HEAVY} if name in sys.modules))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[:-1] == families
