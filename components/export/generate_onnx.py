"""Generate text from model.onnx and encoding.json beside this file: pip install numpy onnxruntime

python generate.py [SEED [TEMPERATURE [LENGTH [PROMPT]]]]
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def generate(
    folder: Path, seed: int = 0, temperature: float = 1.0, length: int = 200, prompt: str | None = None
) -> str:
    """The prompt with at most `length` new tokens. The same seed gives the same text."""
    about = json.loads((folder / "encoding.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    state = {name: np.array([values], np.float32) for name, values in about["initial_state"].items()}
    ids = {token: number for number, token in enumerate(about["tokens"]) if number > 3}  # the first four are special
    rest = about["prompt"] if prompt is None else prompt
    rest = rest.lower() if about["lowercase"] else rest
    longest = max(map(len, ids), default=1)
    text, read = [], [] if about["begin"] is None else [about["begin"]]
    while rest:  # the longest token at the start of the rest
        size = next((n for n in range(longest, 1, -1) if rest[:n] in ids), 1)
        read.append(ids.get(rest[:size], about["unknown"]))
        text.append(rest[:size])
        rest = rest[size:]
    if not read:
        raise SystemExit("this model needs a prompt to continue")
    uniform = np.random.default_rng([seed, 0])
    for _ in range(length):
        for id in read:
            logits, *after = session.run(None, {"ids": np.array([[id]]), **state})
            state = dict(zip(state, after, strict=True))
        logits = logits[0].astype(np.float64) / (temperature or about["temperature"])
        logits[about["never"]] = -np.inf
        cumulative = np.cumsum(np.exp(logits - logits.max()))
        read = [int(np.searchsorted(cumulative, uniform.random() * cumulative[-1], side="right"))]
        if read[0] == about["end"]:
            break
        text.append(about["tokens"][read[0]])
    return "".join(text)


if __name__ == "__main__":
    given = [kind(word) for kind, word in zip((int, float, int, str), sys.argv[1:], strict=False)]
    print(generate(Path(__file__).parent, *given))
