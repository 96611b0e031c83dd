"""Export of a language model's step to an ONNX graph, which runs without Python.

Shapes: B batch, H size of a state, V vocabulary.
"""

from __future__ import annotations

import copy
import json
import logging
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from components.bundle import Bundle
from components.encodings.base import Encoding
from components.encodings.vocabulary import BOS, EOS, PAD, SPECIALS, UNK
from components.errors import UserError
from components.models.sequence_model import SequenceModel
from components.whole_files import new_folder

SEQUENCES, STEPS = 100, 20  # random sequences to compare the graph with the model
TOLERANCE = 2e-5  # of a logit or a state after one step, relative to the largest; up to 4e-6 was seen
MISSING = "exporting to ONNX needs packages that aren't installed"
EXPORTERS = ("torch.onnx", "onnxscript", "onnx_ir")  # loggers with irrelevant warnings
EXAMPLES = {"generate.py": "generate_onnx.py", "index.html": "generate_onnx.html"}


class Step(nn.Module):
    """`SequenceModel.step` with its state as a list: ids [B, 1], states [B, H] → logits [B, V], states [B, H]."""

    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        self.model, self.names = model, list(model.initial_state(1))

    def forward(self, ids_B1: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        logits_BV, after = self.model.step(ids_B1, dict(zip(self.names, states, strict=True)))
        return logits_BV, *(after[name] for name in self.names)


def export_onnx(bundle: Bundle, folder: Path) -> float:
    """Write `model.onnx`, `encoding.json`, and two programs that generate text from them without torch or Reprise,
    `generate.py` and, for a browser, `index.html`, to a new folder. Returns the largest difference to the model on
    random sequences, relative to the largest value.

    Raises:
        UserError: the folder exists, the model can't be exported, a package is missing, or the graph's values differ
            from the model's.
    """
    _check(bundle)
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter is written in it
    except ImportError as error:
        hint = "pip install 'reprise[onnx]'"
        raise UserError(f"{MISSING} ({error.name})", where="--onnx", hint=hint) from None
    with new_folder(folder) as made:
        step = Step(bundle.model).eval()
        _write_graph(step, made / "model.onnx")
        differs, rounding = difference(step, onnxruntime.InferenceSession(made / "model.onnx"))
        if not differs <= max(TOLERANCE, 3 * rounding):  # rounding errors; an mLSTM may divide by nearly 0
            raise UserError(
                f"the exported graph's outputs differ from the model's by {differs:.1e}", where=str(bundle.name)
            )
        (made / "encoding.json").write_text(json.dumps(description(bundle), ensure_ascii=False, indent=1) + "\n")
        for name, source in EXAMPLES.items():
            shutil.copy(Path(__file__).with_name(source), made / name)
    return differs


def description(bundle: Bundle) -> dict[str, Any]:
    """What isn't in the graph: the tokens, the begin and end tokens, and the initial state."""
    framed = bundle.info["framing"] == "sequences"
    state = bundle.model.initial_state(1)
    return {
        "model": bundle.name,
        "weights_sha256": bundle.weights_digest,
        "encoding": bundle.encoding.kind,
        "lowercase": bool(getattr(bundle.encoding, "lowercase", False)),
        "tokens": list(bundle.encoding.vocabulary.tokens),
        "begin": BOS if framed else None,
        "end": EOS if framed else None,
        "unknown": UNK,
        "never": [PAD, UNK, BOS, *([] if framed else [EOS])],
        "prompt": bundle.recipe["generation"].get("prompt", ""),
        "temperature": bundle.recipe["generation"].get("temperature") or 1.0,
        "initial_state": {name: value[0].tolist() for name, value in state.items()},
    }


def difference(step: Step, session: Any) -> tuple[float, float]:
    """The largest differences of any value after any step of random sequences of ids, relative to the largest value (at
    least 1): between the model and the graph, and between the model and itself in double precision. All start each step
    from the model's state, because some models (a Mogrifier LSTM) amplify rounding errors of a state a thousandfold in
    20 steps, in torch as in ONNX."""
    rng = np.random.default_rng(0)
    first = step.model.initial_state(SEQUENCES)
    states = [first[name].detach() for name in step.names]
    exact = copy.deepcopy(step).double()
    found, rounding = 0.0, 0.0
    for _ in range(STEPS):
        ids = torch.from_numpy(rng.integers(0, step.model.vocabulary_size, (SEQUENCES, 1)))
        read = {name: value.numpy() for name, value in zip(("ids", *step.names), (ids, *states), strict=True)}
        with torch.inference_mode():
            precise = exact(ids, *(value.double() for value in states))
            logits, *states = step(ids, *states)
        ours = [value.numpy() for value in (logits, *states)]
        found = max(found, _relative(ours, session.run(None, read)))
        rounding = max(rounding, _relative([value.numpy() for value in precise], ours))
    return found, rounding


def _relative(expected: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> float:
    return max(
        float(np.abs(one - other).max() / max(1.0, np.abs(one).max()))
        for one, other in zip(expected, values, strict=True)
    )


def _check(bundle: Bundle) -> None:
    model, encoding = bundle.model, bundle.encoding
    if not isinstance(model, SequenceModel) or bundle.task.settings is None:
        what = "only language models with one token per step can be exported"
    elif not model.causal:
        what = "its outputs depend on future steps"
    elif encoding.context_sizes or model.places:
        what = f"the encoding {encoding.kind} adds inputs to each step that only Reprise can compute"
    elif not _joined(encoding):
        what = f"the encoding {encoding.kind} doesn't decode to its tokens joined together"
    else:
        return
    hint = f"export it with its code for MLflow instead: reprise export {bundle.name}"
    raise UserError(f"{bundle.name} can't be exported to ONNX: {what}", where="--onnx", hint=hint)


def _joined(encoding: Encoding) -> bool:
    """Whether a text is the concatenation of its tokens, in any order."""
    if encoding.form != "tokens" or encoding.reads != "text" or encoding.given:
        return False
    ordinary = np.arange(len(SPECIALS), len(encoding.vocabulary))
    text = "".join(encoding.vocabulary.tokens[len(SPECIALS) :])
    free = getattr(encoding.allowed, "__func__", None) is Encoding.allowed
    return bool(free and encoding.decode(ordinary) == text)


def _translations() -> dict[Any, Any]:
    """Stable translations of two operations that torch's exporter writes as log σ(x) and log(eᵃ + eᵇ), which is wrong
    where σ(x) is near 0, and infinite where eᵃ overflows."""
    from onnxscript import opset18 as op

    def log_sigmoid(x: Any) -> Any:
        return op.Neg(op.Softplus(op.Neg(x)))

    def logaddexp(a: Any, b: Any) -> Any:
        return op.Add(op.Max(a, b), op.Softplus(op.Neg(op.Abs(op.Sub(a, b)))))

    return {torch.ops.aten.log_sigmoid.default: log_sigmoid, torch.ops.aten.logaddexp.default: logaddexp}


def _write_graph(step: Step, path: Path) -> None:
    B = torch.export.Dim.DYNAMIC
    state = step.model.initial_state(2)
    states = tuple(state[name].detach() for name in step.names)
    talkative = {logging.getLogger(name): logging.getLogger(name).level for name in EXPORTERS}
    for logger in talkative:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                step, (torch.zeros(2, 1, dtype=torch.int64), *states), dynamo=True, verbose=False,
                input_names=["ids", *step.names], output_names=["logits", *(f"next.{name}" for name in step.names)],
                dynamic_shapes=({0: B}, tuple({0: B} for _ in states)),
                custom_translation_table=_translations(),
            )  # fmt: skip
        program.save(path, external_data=False)
    finally:
        for logger, level in talkative.items():
            logger.setLevel(level)
