"""The engine: a sampling loop in C++ for stacks of plain RNN, GRU and LSTM layers on the CPU, many tokens in one call.

Shapes: N sequences in a batch, V vocabulary, S input streams, R rows of all streams' one-hot vectors stacked, H hidden.

The first layer's input products are looked up in a table [R, gates · H]. Every sum has a fixed order, so that a
sequence doesn't depend on the other sequences in the batch or the number of threads. The logits differ from torch's in
their last bits: see `sample`.
"""

from __future__ import annotations

import ctypes
import functools
import logging
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from components.errors import UserError
from components.generation.native import decode as native
from components.generation.native.packing import GATES, Layout, Packed, fill, pack, slots
from components.layers.base import State
from components.layers.gru import GRU
from components.layers.lstm import LSTM
from components.layers.rnn import RNN
from components.layers.stack import Stack
from components.models.sequence_model import SequenceModel

Precision = Literal["float32", "int8"]
KINDS = {("rnn", "tanh"): 0, ("rnn", "relu"): 1, ("gru", "tanh"): 2, ("lstm", "tanh"): 3}  # `Kind` of decode.h
MAX_TABLE_BYTES = 1 << 29
WORK = 1 << 20  # minimum multiply-adds for another thread, some 20 µs
ROWS = 8  # minimum sequences for another thread: each thread reads all weights
SAME = 1e-3  # largest relative difference of logits to torch; a model that computes something else differs far more

NOT_COMPILED = "the native engine can't be compiled here"

log = logging.getLogger(__name__)


class Streams:
    """The states of N sequences during sampling, with their nats and numbers of tokens so far."""

    def __init__(self, count: int, layers: int, H: int, V: int, width: int) -> None:
        self.phase = 0  # which of the two h is the current one
        self.h = np.zeros((layers, 2, count, H), np.float32)
        self.c = np.zeros((layers, count, H), np.float32)
        self.bytes = np.full((layers, 2, count, H), 128, np.uint8)
        self.start, self.logits = np.empty((count, width), np.float32), np.empty((count, V), np.float32)
        self.nats, self.made = np.zeros(count), np.zeros(count, np.int64)
        self.ended = np.zeros(count, np.uint8)


class Engine:
    """A model's weights packed for the native loop. Created by `engine_for`."""

    def __init__(self, model: SequenceModel, precision: Precision, limit: str | None = None) -> None:
        layers: list[Any] = list(model.recurrent.layers)
        kind, H = layers[0].kernel, layers[0].hidden_size
        self._decoder = native.decoder(limit)
        self.kind, self.precision = KINDS[kind, layers[0].kernel_options.get("nonlinearity", "tanh")], precision
        lanes, group = self._decoder.contents.lanes, self._decoder.contents.group if precision == "int8" else 1
        layout, head = Layout(kind, lanes, group), Layout("head", lanes, group)
        self.hidden_size, self.H = H, layout.padded(H)
        self.vocabulary_size, self.V = model.vocabulary_size, head.padded(model.vocabulary_size)
        self.starts = model.starts_S.cpu().numpy()[1:]
        self.context_sizes = np.array(model.context_sizes, np.int64)
        G, H = GATES[kind], self.H
        self.packed: list[Packed] = []
        for index, layer in enumerate(layers):
            by_h = fill(layer.weight_hh.detach().view(G, -1, layer.hidden_size), H, H)
            biases = [fill(b.detach().view(G, -1), H) for b in (layer.bias_ih, layer.bias_hh)]
            if index == 0:
                self.table = _table(model, layout, biases, H)
                self.packed.append(pack(layout, by_h[..., :0], by_h, None, precision))
            else:
                by_x = fill(layer.weight_ih.detach().view(G, layer.hidden_size, -1), H, H)
                self.packed.append(pack(layout, by_x, by_h, slots(kind, *biases), precision))
        weight = fill(model.head.weight.detach()[None], self.V, H)
        bias = fill(model.head.bias.detach()[None], self.V, value=-torch.inf)
        self.packed.append(pack(head, weight, weight[..., :0], bias, precision))
        self.work = sum(part.weight.numel() for part in self.packed)  # multiply-adds per token

    def begin(self, state: State) -> Streams:
        """Streams that start from a state of the model."""
        count = len(state["0.h"])
        streams = Streams(count, len(self.packed) - 1, self.H, self.V, self.table.shape[1])
        for index in range(len(self.packed) - 1):
            streams.h[index, 0, :, : self.hidden_size] = state[f"{index}.h"].numpy()
            if f"{index}.c" in state:
                streams.c[index, :, : self.hidden_size] = state[f"{index}.c"].numpy()
        if self.precision == "int8":
            streams.bytes[:, 0] = np.clip(streams.h[:, 0], -1, 1) * 127 + 128.5  # a learned initial h may be larger
        return streams

    def advance(
        self,
        streams: Streams,
        tokens: np.ndarray,
        uniforms: np.ndarray,
        allowed: np.ndarray,
        context: np.ndarray | None = None,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        eos: int = -1,
    ) -> None:
        """Read each sequence's last token and sample the next ones: `tokens` int64 [N, 1 + steps] has the last token
        in its first column and receives the new ones in the others; a sequence stops at `eos`.

        `uniforms` [N, steps] are random numbers in [0, 1). `allowed` bool [V] or [N, V] is the mask for all these
        steps, `context` int64 [N, S − 1] the context features of the first token (then steps is 1). The logits of the
        last step are left in `streams.logits`.

        Raises:
            ValueError: an array has a wrong shape, an id is out of range, or a mask allows no token.
        """
        count, steps = len(streams.made), tokens.shape[1] - 1
        S = 1 + len(self.context_sizes)
        context = np.zeros((count, 0), np.int64) if context is None else context
        alive = streams.ended == 0
        _check("tokens", tokens.shape == (count, 1 + steps) and steps > 0 and tokens.flags.c_contiguous)
        _check("tokens", tokens.dtype == np.int64 and _inside(tokens[alive, 0], self.vocabulary_size))
        _check("uniforms", uniforms.shape == (count, steps) and _inside(uniforms[alive], 1))
        _check("context", context.shape == (count, S - 1) and _inside(context[alive], self.context_sizes))
        _check("context", S == 1 or steps == 1)
        _check("allowed", allowed.shape in ((self.vocabulary_size,), (count, self.vocabulary_size)))
        _check("allowed", bool((allowed if allowed.ndim == 1 else allowed[alive]).any(axis=-1).all()))
        _check("temperature, top_k or top_p", 0 <= temperature < np.inf and top_k >= 0 and 0 < top_p <= 1)
        mask = np.zeros((*allowed.shape[:-1], self.V), np.uint8)
        mask[..., : self.vocabulary_size] = allowed
        rows = np.ascontiguousarray(context + self.starts)
        uniforms = np.ascontiguousarray(uniforms, np.float64)
        threads = max(1, min(torch.get_num_threads(), count // ROWS, count * steps * self.work // WORK))
        scratch, order = np.empty((threads, 2 * self.V)), np.empty(count, np.int64)
        layers = (native.Layer * len(self.packed))(
            *(self._layer(streams, index) for index in range(len(self.packed) - 1)), self._layer(streams, None)
        )
        arguments = native.Decode(
            kind=self.kind, bytes=self.precision == "int8", layers=len(layers) - 1, N=count, H=self.H, V=self.V,
            streams=S, width=self.table.shape[1], threads=threads, steps=steps, phase=streams.phase,
            tokens_stride=1 + steps, allowed_stride=self.V if allowed.ndim == 2 else 0, top_k=top_k, eos=eos,
            temperature=temperature, top_p=top_p, layer=ctypes.addressof(layers), table=self.table.data_ptr(),
            context=rows.ctypes.data, tokens=tokens.ctypes.data, allowed=mask.ctypes.data,
            uniforms=uniforms.ctypes.data, start=streams.start.ctypes.data, logits=streams.logits.ctypes.data,
            nats=streams.nats.ctypes.data, made=streams.made.ctypes.data, ended=streams.ended.ctypes.data,
            alive=order.ctypes.data, scratch=scratch.ctypes.data,
        )  # fmt: skip
        native.load_native().reprise_decode(self._decoder, ctypes.byref(arguments))
        streams.phase = arguments.phase

    def _layer(self, streams: Streams, index: int | None) -> native.Layer:
        """A layer with its state; None: the head."""
        part = self.packed[-1 if index is None else index]
        layer = native.Layer(
            inputs=part.inputs,
            **{n: getattr(part, n).data_ptr() for n in part._fields[1:] if getattr(part, n) is not None},
        )
        if index is not None:
            for name in ("h", "c", "bytes"):
                setattr(layer, name, getattr(streams, name)[index].ctypes.data)
        return layer


def engine_for(model: nn.Module, precision: Precision = "float32") -> Engine | None:
    """The engine of a model in evaluation mode, or None if it isn't supported: `obstacle` gives the reason."""
    found = _make(model, precision)
    return found if isinstance(found, Engine) else None


def obstacle(model: nn.Module, precision: Precision = "float32") -> str | None:
    """Why the engine doesn't support this model; None if it does."""
    found = _make(model, precision)
    return None if isinstance(found, Engine) else found


def refused(options: Mapping[str, Any], precision: Precision) -> str | None:
    """Why the engine doesn't support models with these settings of a recipe's model section; None if it does, as far as
    known before the model is built."""
    if options["kind"] == "graph" or options["softmax"] == "adaptive" or options.get("copy"):
        return _unlike(nn.Identity(), precision)
    small = {"hidden_size": 4, "embedding_size": None, "vectors": None, "freeze_vectors": False}
    return _unlike(SequenceModel(4, **{**options, **small}), precision)


def _make(model: nn.Module, precision: Precision) -> Engine | str:
    if why := _unlike(model, precision):
        return why
    rows = model.vocabulary_size + sum(model.context_sizes)
    if rows * 4 * model.recurrent.layers[0].hidden_size * 4 > MAX_TABLE_BYTES:
        return f"the vocabulary's input products would take more than {MAX_TABLE_BYTES >> 20} MiB"
    if not _builds():
        return NOT_COMPILED
    exact = Engine(model, "float32")
    if not _agrees(exact, model):
        return "the native engine's results differ from the model's"
    return exact if precision == "float32" else Engine(model, precision)


def _unlike(model: nn.Module, precision: Precision) -> str | None:
    """Why the engine doesn't support a model of this kind."""
    # exactly these classes: a subclass may compute something else
    layers = list(model.recurrent.layers) if type(model) is SequenceModel and type(model.recurrent) is Stack else []
    if not layers or {type(layer) for layer in layers} not in ({RNN}, {GRU}, {LSTM}):
        return "only stacks of plain rnn, gru or lstm layers are supported"
    if model.recurrent.residual or not all(layer.kernel_options.get("reset_after", True) for layer in layers):
        return "residual connections and a gru with reset_after: false aren't supported"
    if not isinstance(model.head, nn.Linear):
        return "only a full softmax is supported"
    shapes = {name: tuple(value.shape) for name, value in model.named_parameters() if "first_states" not in name}
    if shapes != _expected(model) or len({repr(layer.kernel_options) for layer in layers}) > 1:
        return "the layers have additional parameters, which aren't supported"
    if {(p.dtype, p.device.type) for p in model.parameters()} != {(torch.float32, "cpu")}:
        return "only float32 models on the CPU are supported"
    if precision == "int8" and "relu" in layers[0].kernel_options.values():
        return "int8 needs layer outputs between -1 and 1, but relu is unbounded"
    return None


def _expected(model: SequenceModel) -> dict[str, tuple[int, ...]]:
    """The shapes of all parameters of a plain model."""
    layers = list(model.recurrent.layers)
    H, G, V = layers[0].hidden_size, layers[0].gates * layers[0].hidden_size, model.vocabulary_size
    width, sizes = V + sum(model.context_sizes), [] if model.embedding is None else [V, *model.context_sizes]
    if sizes:
        width = model.embedding.embedding_dim
    tables = [
        ("embedding.weight", *sizes[:1]),
        *((f"context_embeddings.{n}.weight", s) for n, s in enumerate(sizes[1:])),
    ]
    expected: dict[str, tuple[int, ...]] = {name: (size[0], width) for name, *size in tables if size}
    for index in range(len(layers)):
        shapes = {"weight_ih": (G, H if index else width), "weight_hh": (G, H), "bias_ih": (G,), "bias_hh": (G,)}
        expected |= {f"recurrent.layers.{index}.{name}": shape for name, shape in shapes.items()}
    expected |= {"head.weight": (V, H), "head.bias": (V,)}
    if model.head.weight is getattr(model.embedding, "weight", None):
        del expected["head.weight"]  # tied
    return expected


@functools.cache
def _builds() -> bool:
    try:
        native.load_native()
    except UserError as error:
        log.warning("the faster native sampling loop can't be used; sampling in float32 with torch instead: %s", error)
        return False
    return True


@torch.inference_mode()
def _agrees(engine: Engine, model: SequenceModel) -> bool:
    """Whether one step of the engine gives the model's logits. Shapes aren't sufficient: a residual connection has no
    parameters."""
    rng = np.random.default_rng(0)
    state = {
        name: torch.from_numpy(rng.uniform(-0.5, 0.5, value.shape).astype(np.float32))
        for name, value in model.initial_state(2).items()
    }
    inputs = np.stack([rng.integers(0, size, 2) for size in (model.vocabulary_size, *model.context_sizes)], axis=-1)
    expected, _ = model.step(torch.from_numpy(inputs), dict(state))
    streams = engine.begin(state)
    tokens = np.zeros((2, 2), np.int64)
    tokens[:, 0] = inputs[:, 0]
    engine.advance(streams, tokens, np.zeros((2, 1)), np.ones(model.vocabulary_size, bool), inputs[:, 1:])
    difference = np.abs(streams.logits[:, : model.vocabulary_size] - expected.numpy()).max()
    return bool(difference <= SAME * (1 + expected.abs().max().item()))


def _table(model: SequenceModel, layout: Layout, biases: list[Tensor], H: int) -> Tensor:
    """The first layer's input product of each one-hot row or embedding [R, slots · H]; tokens include the biases."""
    first = model.recurrent.layers[0]
    weight_GI = first.weight_ih.detach()
    if model.embedding is None:
        products_RG = weight_GI.t()
    else:
        embeddings = [model.embedding.weight, *(table.weight for table in model.context_embeddings)]
        products_RG = torch.cat([e.detach() for e in embeddings]) @ weight_GI.t()
    products = fill(products_RG.reshape(len(products_RG), first.gates, -1), H)
    zeros = torch.zeros_like(biases[1])
    tokens, others = products[: model.vocabulary_size], products[model.vocabulary_size :]
    parts = [slots(layout.kind, tokens + biases[0], biases[1].expand_as(tokens))]
    parts.append(slots(layout.kind, others, zeros.expand_as(others)))
    return layout.sums(torch.cat(parts))


def _inside(values: np.ndarray, size: Any) -> bool:
    return bool(((values >= 0) & (values < size)).all())


def _check(name: str, right: bool) -> None:
    # the arrays are passed as pointers, so that C++ can't check them
    if not right:
        raise ValueError(f"{name}: unexpected shape or type, or a value out of range")
