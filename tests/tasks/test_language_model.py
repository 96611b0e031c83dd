"""A language model's loss: penalties on activations, words left out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from components.encodings.characters import Characters
from components.encodings.vocabulary import PAD
from components.errors import UserError
from components.tasks.language_model import LanguageModel

TEXT = "the cat sat on the mat. "


def made(penalties: dict[str, float] | None = None, **model):
    """A task, its model and a batch with an ended row."""
    encoding = Characters()
    encoding.fit([TEXT])
    task = LanguageModel(encoding, "sequences", **(penalties or {}))
    torch.manual_seed(0)
    built = task.build_model({"kind": "lstm", "hidden_size": 6, **model})
    ids = np.stack([encoding.encode(TEXT[:9]), encoding.encode(TEXT[9:18])])
    targets = ids[:, 1:].copy()
    targets[1, 5:] = PAD
    return task, built, SimpleNamespace(inputs_BTS=ids[:, :-1, None], targets_BT=targets)


def test_penalties_are_mean_squares_over_the_counted_steps_in_training_only() -> None:
    a, b = 2.0, 3.0
    task, model, batch = made({"activation_regularization": a, "temporal_activation_regularization": b}, dropout=0.5)
    plain, _, _ = made(dropout=0.5)
    torch.manual_seed(1)
    found, state = task.loss(model, batch, None)
    torch.manual_seed(1)
    nats, same_state = plain.loss(model, batch, None)
    assert all(torch.equal(state[name], same_state[name]) for name in state)
    torch.manual_seed(1)
    y, _ = model.recurrent(model.rows(torch.from_numpy(batch.inputs_BTS)))
    dropped, wanted = model.dropout(y), 0.0
    for row, length in ((0, 8), (1, 5)):
        wanted += a * dropped[row, :length].square().mean(dim=1).sum()
        wanted += b * (y[row, 1:length] - y[row, : length - 1]).square().mean(dim=1).sum()
    torch.testing.assert_close(found.total - nats.total, wanted)
    assert found.count == nats.count == 13
    model.eval()
    assert torch.equal(task.loss(model, batch, None)[0].total, plain.loss(model, batch, None)[0].total)


def test_a_graph_takes_no_penalties() -> None:
    with pytest.raises(UserError, match="last layer"):
        made({"activation_regularization": 1.0}, kind="graph")


def test_embedding_dropout_leaves_out_words_wherever_they_stand() -> None:
    _, model, _ = made(embedding_dropout=0.5)
    ids = torch.randint(4, model.vocabulary_size, (4, 200, 1))
    torch.manual_seed(2)
    read = model.rows(ids)
    scale = (read / model.embedding(ids[..., 0]))[..., 0]
    for word in ids.unique():
        (once,) = scale[ids[..., 0] == word].round(decimals=4).unique().tolist()
        assert once in (0.0, 2.0)
    assert 0.2 < (scale == 0).float().mean() < 0.8
    assert not torch.equal(read, model.rows(ids)), "the next window leaves out others"
    assert torch.equal(model.eval().rows(ids), model.embedding(ids[..., 0]))
    with pytest.raises(UserError, match="embedding_dropout"):
        made(embedding_dropout=0.5, input="one_hot")
