"""The tables of speed in docs/results.md and docs/gpu.md, out of results/*.json: python -m benchmarks.table"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def table(instruction_set: str, threads: tuple[int, int] = (2, 1)) -> str:
    """Ratios torch.nn's time / the native kernels', on two threads and on one, as Markdown."""
    rows = json.loads((RESULTS / f"kernels-{instruction_set}.json").read_text(encoding="utf-8"))["rows"]
    ratios = {
        (tuple(row["B,T,H,layers,V"]), row["kind"], row["threads"]): row["contenders"]["native"]["clock"][
            "ratio_median"
        ]
        for row in rows
    }
    lines = ["| B, T, H, layers, V | LSTM | GRU | RNN |", "|---|---|---|---|"]
    for shape in dict.fromkeys(shape for shape, _, _ in ratios):
        cells = (" / ".join(f"{ratios[shape, kind, n]:.2f}" for n in threads) for kind in ("lstm", "gru", "rnn"))
        lines.append(f"| {', '.join(map(str, shape))} | {' | '.join(cells)} |")
    return "\n".join(lines)


def decoding_table() -> str:
    """Ratios to the loop over nn.LSTM, on two threads and on one, as Markdown."""
    rows = json.loads((RESULTS / "decoding.json").read_text(encoding="utf-8"))["rows"]
    ratios = {
        (tuple(row["H,layers,sequences"]), name, row["threads"]): of["clock"]["ratio_median"]
        for row in rows
        for name, of in row["contenders"].items()
    }
    names = ["nn.LSTMCell loop", "torch.ao int8", "native float32", "native int8"]
    lines = [f"| H, layers, sequences | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for shape in dict.fromkeys(shape for shape, _, _ in ratios):
        cells = (f"{ratios[shape, name, 2]:.1f} / {ratios[shape, name, 1]:.1f}" for name in names)
        lines.append(f"| {', '.join(map(str, shape))} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _gpu_ratios(row: dict[str, Any]) -> str:
    by_cudnn = f"{row['ways']['torch, graph']['ratio']:.2f}"
    _, _, H, *_ = row["B,T,H,layers,V"]
    if "triton, graph" not in row["ways"] or (row["precision"] != "bfloat16" and H < 256):
        return by_cudnn
    return f"{row['ways']['triton, graph']['ratio']:.2f} ({by_cudnn})"


def gpu_table() -> str:
    """Ratios of a plain PyTorch loop's time to that of a recorded update, by precision, as Markdown; where Triton is
    taken, that by cuDNN in brackets."""
    rows = json.loads((RESULTS / "gpu.json").read_text(encoding="utf-8"))["rows"]
    ratios = {
        (tuple(row["B,T,H,layers,V"]), row["cell"], row["precision"]): _gpu_ratios(row)
        for row in rows
        if "plain PyTorch" in row["ways"]
    }
    lines = ["| B, T, H, layers, V | LSTM | GRU | RNN |", "|---|---|---|---|"]
    for shape in dict.fromkeys(shape for shape, _, _ in ratios):
        cells = (
            " / ".join(ratios[shape, cell, precision] for precision in ("float32", "tf32", "bfloat16"))
            for cell in ("lstm", "gru", "rnn")
        )
        lines.append(f"| {', '.join(map(str, shape))} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table("avx512"), table("avx2"), decoding_table(), gpu_table(), sep="\n\n")
