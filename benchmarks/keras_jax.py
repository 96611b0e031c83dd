"""The training step of `benchmarks.kernels` in Keras on JAX, compiled by XLA. Neither is a dependency of Reprise:
`pip install keras jax` beside it to have them measured."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

ORDER = {"lstm": (0, 1, 2, 3), "gru": (1, 0, 2), "rnn": (0,)}  # Keras' gates by torch's number: z r n for the GRU


def step(
    kind: str, layers: int, parameters: dict[str, Tensor], ids: Tensor, targets: Tensor
) -> Callable[[], dict[str, Tensor]] | None:
    """A step that gives the loss and torch's gradients by name; None, its reason printed, where it can't be had."""
    os.environ["KERAS_BACKEND"] = "jax"
    try:
        import jax
        import keras
    except ImportError as error:
        print(f"Keras on JAX is left out: {error}")
        return None
    H, V = parameters["weight_hh_l0"].shape[1], parameters["head.weight"].shape[0]
    layer = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}[kind]
    model = keras.Sequential([keras.Input((ids.shape[1], V))])
    for _ in range(layers):
        model.add(layer(H, return_sequences=True))
    model.add(keras.layers.Dense(V))
    model.set_weights(_to_keras(kind, layers, parameters))
    tokens, wanted = jax.numpy.asarray(ids.numpy()), jax.numpy.asarray(targets.numpy())
    frozen = [variable.value for variable in model.non_trainable_variables]

    def loss(weights: list) -> object:
        logits, _ = model.stateless_call(weights, frozen, jax.nn.one_hot(tokens, V))
        chosen = jax.numpy.take_along_axis(jax.nn.log_softmax(logits), wanted[..., None], axis=-1)
        return -chosen.mean()

    both = jax.jit(jax.value_and_grad(loss))
    weights = [variable.value for variable in model.trainable_variables]

    def run() -> dict[str, Tensor]:
        value, gradients = jax.block_until_ready(both(weights))
        named = _to_torch(kind, layers, [np.asarray(gradient) for gradient in gradients])
        return {"loss": torch.tensor(float(value))} | named

    return run


def _to_keras(kind: str, layers: int, parameters: dict[str, Tensor]) -> list[np.ndarray]:
    arrays = []
    for n in range(layers):
        w_ih, w_hh, b_ih, b_hh = (
            _ordered(kind, parameters[f"{name}_l{n}"].detach().numpy())
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        arrays += [w_ih.T, w_hh.T, np.stack([b_ih, b_hh]) if kind == "gru" else b_ih + b_hh]
    return [*arrays, parameters["head.weight"].detach().numpy().T, parameters["head.bias"].detach().numpy()]


def _to_torch(kind: str, layers: int, gradients: list[np.ndarray]) -> dict[str, Tensor]:
    named = {}
    for n in range(layers):
        kernel, recurrent, bias = gradients[3 * n : 3 * n + 3]
        b_ih, b_hh = bias if kind == "gru" else (bias, bias)
        for name, array in (("weight_ih", kernel.T), ("weight_hh", recurrent.T), ("bias_ih", b_ih), ("bias_hh", b_hh)):
            named[f"{name}_l{n}"] = torch.from_numpy(_ordered(kind, array).copy())
    weight, bias = gradients[-2:]
    return named | {"head.weight": torch.from_numpy(weight.T.copy()), "head.bias": torch.from_numpy(bias.copy())}


def _ordered(kind: str, array: np.ndarray) -> np.ndarray:
    """The gates' blocks of rows from torch's order to Keras', or back: each order is its own inverse."""
    blocks = np.split(array, len(ORDER[kind]))
    return np.concatenate([blocks[index] for index in ORDER[kind]])
