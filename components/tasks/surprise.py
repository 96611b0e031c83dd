"""The nats of given tokens under a language model.

Shapes: B batch, T time, S input streams, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from components.encodings.base import Encoding
from components.encodings.vocabulary import BOS
from components.layers.base import State
from components.models.sequence_model import SequenceModel
from components.tasks.base import to_device

WINDOW = 8192  # steps of a long text per call of the model
SHOWN = 640  # tokens in a picture


@torch.inference_mode()
def surprise(model: nn.Module, encoding: Encoding, ids: np.ndarray) -> np.ndarray:
    """Nats of each of ids[1:] given the ids before it, float64 [T − 1]. A long text is read in windows."""
    ids = np.asarray(ids, dtype=np.int64)
    streams = np.concatenate([ids[:, None], encoding.context(ids)], axis=-1)[:-1]
    found, state = [], None
    for start in range(0, len(streams), WINDOW):
        window = slice(start, start + WINDOW)
        inputs, targets = to_device(streams[None, window], model), to_device(ids[None, 1:][:, window], model)
        nats_BT, _, state = judged(model, inputs, targets, state)
        found.append(nats_BT[0].double().cpu().numpy())
    return np.concatenate(found)


def judged(
    model: nn.Module, inputs_BTS: Tensor, targets_BT: Tensor, state: State | None
) -> tuple[Tensor, Tensor, State]:
    """The nats of each target and the likeliest token of each step, [B, T] both, and the state after the window."""
    if isinstance(model, SequenceModel):
        y_BTH, state = model.outputs(inputs_BTS, state)
        beside = (stream.flatten(0, 1) for stream in model.beside(inputs_BTS))
        nats_N, best_N = model.head.judge(y_BTH.flatten(0, 1), targets_BT.flatten(), *beside)
    else:
        logits_BTV, state = model(inputs_BTS, state)
        logits_NV = logits_BTV.flatten(0, 1).float()
        nats_N, best_N = cross_entropy(logits_NV, targets_BT.flatten(), reduction="none"), logits_NV.argmax(dim=1)
    return nats_N.view_as(targets_BT), best_N.view_as(targets_BT), state


def excerpt(ids: np.ndarray) -> np.ndarray:
    """The beginning of a sequence with the token before it (BOS, or a stream's first), int64 [≤ SHOWN + 1]."""
    ids = np.asarray(ids[: SHOWN + 1], dtype=np.int64)
    return ids if len(ids) > 1 else np.array([BOS, *ids], dtype=np.int64)
