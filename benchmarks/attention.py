"""Attention on a CPU by the kernel that zoo chooses, beside the fused kernel and a plain softmax, for texts of each length.

    python benchmarks/attention.py [--size 32|64] [--lengths 10 13 24 …] [--tokens 768] [--write FILE]

Batches have --tokens tokens, 12 heads of --size components, and texts of one length whose last token is masked. Times are
medians in microseconds of the wall, with one thread. "products" is softmax(Q Kᵀ + bias) V in the dtype, without any padding.
Takes half a minute.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from common import finish, save_table

from zoo.core import hardware
from zoo.ops import attention

HEADS = 12
LENGTHS = (8, 10, 12, 13, 15, 16, 17, 20, 24, 28, 31, 32, 40, 48, 56, 64, 80, 88, 128, 200, 256)
REPEATS = 60


def split(qkv: torch.Tensor, batch: int, length: int) -> torch.Tensor:
    return qkv.view(batch, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)


def attend_fused(qkv: torch.Tensor, batch: int, length: int, bias: torch.Tensor) -> torch.Tensor:
    query, key, value = split(qkv, batch, length)
    result = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
    return result.transpose(1, 2).reshape(batch * length, -1)


def attend_plainly(qkv: torch.Tensor, batch: int, length: int, bias: torch.Tensor) -> torch.Tensor:
    query, key, value = split(qkv, batch, length)
    weights = torch.softmax(query @ key.transpose(-1, -2) + bias, dim=-1)
    return (weights @ value).transpose(1, 2).reshape(batch * length, -1)


def attend_as_zoo(qkv: torch.Tensor, batch: int, length: int, bias: torch.Tensor) -> torch.Tensor:
    return attention.attend(qkv, batch, length, HEADS, bias)


SIDES: dict[str, Callable[[torch.Tensor, int, int, torch.Tensor], torch.Tensor]] = {
    "zoo": attend_as_zoo,
    "fused": attend_fused,
    "products": attend_plainly,
}


def measure(length: int, size: int, tokens: int, dtype: torch.dtype) -> dict[str, float]:
    """Return the median microseconds of each side. The sides take turns."""
    batch = max(1, tokens // length)
    torch.manual_seed(length)
    qkv = torch.randn(batch * length, 3 * HEADS * size).to(dtype)
    qkv[:, : HEADS * size] *= size**-0.5
    bias = torch.zeros(batch, 1, 1, length, dtype=dtype)
    bias[..., -1] = torch.finfo(dtype).min
    times: dict[str, list[float]] = {name: [] for name in SIDES}
    with torch.inference_mode():
        for turn in range(REPEATS + 5):
            for name, attend in SIDES.items():
                start = time.perf_counter()
                attend(qkv, batch, length, bias)
                if turn >= 5:
                    times[name].append(1e6 * (time.perf_counter() - start))
    return {name: float(torch.tensor(each).median()) for name, each in times.items()}


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32, help="components of a head")
    parser.add_argument("--lengths", type=int, nargs="*", default=LENGTHS, help="tokens of a text")
    parser.add_argument("--tokens", type=int, default=768, help="tokens of a batch")
    parser.add_argument("--write", type=Path, metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(1)
    hardware.keep_large_blocks()  # as encoders do
    attend_as_zoo(torch.zeros(1, 3 * HEADS * args.size), 1, 1, torch.zeros(1, 1, 1, 1))
    names = [f"{name} {kind}" for kind in ("fp32", "bf16") for name in SIDES]
    lines = [f"| tokens | texts | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
    figures = {}
    for length in args.lengths:
        both = [measure(length, args.size, args.tokens, dtype) for dtype in (torch.float32, torch.bfloat16)]
        figures[length] = [value for times in both for value in times.values()]
        cells = " | ".join(f"{value:.0f}" for value in figures[length])
        lines.append(f"| {length} | {max(1, args.tokens // length)} | {cells} |")
        print(lines[-1], flush=True)
    if args.write:
        about = f"microseconds for 12 heads of {args.size} components and {args.tokens} tokens, one thread."
        save_table(args.write, "Attention by length", "benchmarks/attention.py", about, lines)
    finish({"benchmark": "attention", "size": args.size, "times": figures})


if __name__ == "__main__":
    main()
