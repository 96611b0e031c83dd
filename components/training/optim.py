"""Optimizers by name."""

from __future__ import annotations

import inspect
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn
from torch.optim import SGD, Adam, AdamW

from components.training.depth import depths
from components.training.rows import RowsAdam, RowsAdamW, RowsSGD, use_rows


def make_optimizer(
    model: nn.Module,
    /,
    *,
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw",
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3,
    weight_decay: Annotated[float, Field(ge=0)] = 0.01,
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    layer_rates: Annotated[float, Field(gt=0, le=1)] = 1.0,
    embedding_rate: Annotated[float, Field(gt=0, le=100)] = 1.0,
    sparse_rows: bool = False,
) -> torch.optim.Optimizer:
    """AdamW decouples the decay (Loshchilov & Hutter 2019); Adam adds it to the gradient; `momentum` is SGD's.

    `optimizer`: the algorithm: adamw, adam or sgd. `learning_rate`: maximum learning rate, see the schedule.
    `weight_decay`: weight decay of matrices, not of biases and other vectors. `layer_rates`: factor on the learning
    rate from each layer to the one below it: the head has the full rate, the last recurrent layer that times
    `layer_rates`, and so on down to the embedding; 0.385 (1 / 2.6) is usual for a trained model (Howard & Ruder 2018).
    `embedding_rate`: factor on the learning rate of embeddings; below 1, pre-trained word vectors change less.

    `sparse_rows`: update only the rows of embeddings, and of a sampled softmax's matrix, that the batch used, which is
    much faster with many words; other rows keep their moments (or momentum) and are not decayed. It needs a table that
    isn't read as a whole, so not one tied to a full softmax.

    Raises:
        UserError: `sparse_rows` is set, and the model has no such table.
    """
    _keep_dynamo_out()
    factors = _factors(model, layer_rates, embedding_rate)
    groups = []
    for factor in sorted(set(factors.values()), reverse=True):
        for decay, chosen in ((weight_decay, True), (0.0, False)):  # matrices, then vectors
            held = [p for p, its in factors.items() if its == factor and (p.ndim >= 2) == chosen]
            if held:
                groups.append({"params": held, "weight_decay": decay, "lr": learning_rate * factor})
    if sparse_rows:
        use_rows(model)
    sgd, adam, adamw = (RowsSGD, RowsAdam, RowsAdamW) if sparse_rows else (SGD, Adam, AdamW)
    if optimizer == "sgd":
        return sgd(groups, lr=learning_rate, momentum=momentum)
    kind = adamw if optimizer == "adamw" else adam
    # fused: one pass over each parameter, 2.3–4.6 times faster than the default on CPU; capturable: in a CUDA graph
    on_gpu = next(model.parameters()).device.type == "cuda"
    return kind(groups, lr=learning_rate, betas=(0.9, 0.99), fused=True, capturable=on_gpu)


def _factors(model: nn.Module, layer_rates: float, embedding_rate: float) -> dict[nn.Parameter, float]:
    """The factor on each parameter's learning rate."""
    factors = dict.fromkeys(model.parameters(), 1.0)
    if layer_rates != 1:
        level_of = depths(model, where="training.layer_rates")
        top = max(level_of.values())
        factors = {p: layer_rates ** (top - level_of[name]) for name, p in model.named_parameters()}
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            factors[module.weight] *= embedding_rate
    return factors


def takes_refusals(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer reads `found_inf`, a tensor that is 1 if this update has to be skipped."""
    return bool(optimizer.defaults.get("fused"))


def optimizer_step(optimizer: torch.optim.Optimizer) -> None:
    """Run `optimizer.step()`."""
    with torch.no_grad():
        inspect.unwrap(type(optimizer).step)(optimizer)


def _keep_dynamo_out() -> None:
    """Avoid the import of torch._dynamo by torch's optimizers (3 s on a slow core), which only keeps it from compiling
    their methods. Nothing is compiled here: these and `optimizer_step` call the wrapped methods."""
    for method in vars(torch.optim.Optimizer).values():
        if "_disable_dynamo" in getattr(getattr(method, "__code__", None), "co_qualname", ""):
            method.__wrapped__.__dict__.setdefault("__dynamo_disable", method.__wrapped__)
