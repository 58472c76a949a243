"""Causal attention of short rows, forward and backward: plain batched products beside PyTorch's fused kernel.

`python bench/attention.py [--threads N] [--json]` prints one line per shape (best of 4 x 6) and, with --json, a last
line of JSON. Both sides run in one process, one after the other, on the same tensors.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from farthing.models.short_rows import short_rows

SHAPES = (
    (80, 100, 6, 2, 32),
    (40, 200, 6, 2, 32),
    (30, 270, 6, 2, 32),
    (80, 100, 3, 1, 64),
    (80, 100, 6, 1, 32),
)


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    heads = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(*heads, is_causal=True, enable_gqa=True).transpose(1, 2)


def products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return short_rows(q, k, v, q.shape[-1] ** -0.5)


def milliseconds(attend: Callable[[Tensor, Tensor, Tensor], Tensor], *tensors: Tensor) -> float:
    """Best time of one forward and backward."""
    best = float("inf")
    for _ in range(2):
        attend(*tensors).sum().backward()
    for _ in range(4):
        began = time.perf_counter()
        for _ in range(6):
            attend(*tensors).sum().backward()
        best = min(best, (time.perf_counter() - began) / 6)
    return 1000 * best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{'rows x tokens, heads/key heads x channels':42} {'fused':>9} {'products':>9}  bfloat16, ms")
    results = []
    for rows, tokens, heads, key_heads, channels in SHAPES:
        generator = torch.Generator().manual_seed(0)
        q, k, v = (
            torch.randn(rows, tokens, n, channels, generator=generator).bfloat16().requires_grad_()
            for n in (heads, key_heads, key_heads)
        )
        times = {"fused_ms": milliseconds(fused, q, k, v), "products_ms": milliseconds(products, q, k, v)}
        shape = f"{rows} x {tokens}, {heads}/{key_heads} x {channels}"
        print(f"{shape:42} {times['fused_ms']:9.1f} {times['products_ms']:9.1f}")
        results.append({"shape": shape, **times})
    if arguments.json:
        print(json.dumps({"torch": torch.__version__, "threads": arguments.threads, "shapes": results}))


if __name__ == "__main__":
    main()
