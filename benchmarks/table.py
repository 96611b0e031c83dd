"""The README's table of speed, out of results/kernels.json: python -m benchmarks.table"""

from __future__ import annotations

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "kernels.json"


def table(threads: int = 2) -> str:
    """Ratios torch.nn's time / the native kernels', for tokens and for dense input, as Markdown."""
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    ratios = {
        (tuple(row["B,T,H,layers,V"][:4]), row["kind"], row["input"]): row["contenders"]["native"]["clock"][
            "ratio_median"
        ]
        for row in rows
        if row["threads"] == threads
    }
    lines = ["| B, T, H, layers | LSTM | GRU | RNN |", "|---|---|---|---|"]
    for shape in dict.fromkeys(shape for shape, _, _ in ratios):
        cells = (
            f"{ratios[shape, kind, 'ids']:.2f} / {ratios[shape, kind, 'dense']:.2f}" for kind in ("lstm", "gru", "rnn")
        )
        lines.append(f"| {', '.join(map(str, shape))} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
