"""The README's table of speed, out of results/kernels.json: python -m benchmarks.table"""

from __future__ import annotations

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "kernels.json"


def table(threads: tuple[int, int] = (2, 1)) -> str:
    """Ratios torch.nn's time / the native kernels', on two threads and on one, as Markdown."""
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
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


if __name__ == "__main__":
    print(table())
