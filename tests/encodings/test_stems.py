"""Words beside their stems: what rare forms share, what training hides, and a model that reads both."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.encodings.base import Field, encoding_from_state
from components.encodings.tokens import Tokens
from components.encodings.vocabulary import UNK
from components.errors import UserError
from components.models.pooled import Pooled

TEXTS = ["The plot disappoints , it disappointed .", "^ a disappointing a plot ^"]


def fitted(**options) -> Tokens:
    encoding = Tokens(stem=5, **{"lowercase": True, **options})
    encoding.fit(TEXTS)
    return encoding


@given(st.text(st.sampled_from("abcdefgh ^.,'"), max_size=60))
def test_every_word_has_its_stem_and_the_words_are_as_without(text):
    with_stems, plain = fitted(), Tokens(lowercase=True)
    for encoding in (with_stems, plain):
        encoding.fit([*TEXTS, text])
    ids = with_stems.encode(text)
    assert ids.shape == (len(plain.encode(text)), 2)
    words = [with_stems.vocabulary.token(id) for id in ids[:, 0]]
    assert words == [plain.vocabulary.token(id) for id in plain.encode(text)]
    assert [with_stems.vocabulary.token(id) for id in ids[:, 1]] == [f"^{word[:5]}" for word in words]
    assert with_stems.decode(ids) == plain.decode(plain.encode(text))


def test_an_unknown_form_has_the_stem_of_the_known_ones():
    encoding = fitted(min_count=2)
    seen, new = encoding.encode("disappointed disappointment")
    assert seen[0] == new[0] == UNK  # each form was seen once
    assert seen[1] == new[1] != UNK
    assert encoding.prompt("disappointment")[1] == []
    assert encoding.prompt("disappointment zebra")[1][0].startswith("1 of 2 words of the prompt are unknown")
    assert (encoding_from_state(encoding.state()).encode(TEXTS[0]) == encoding.encode(TEXTS[0])).all()


def test_training_hides_words_with_their_stems_and_words_alone():
    encoding = fitted(hidden=0.2, only_stem=0.5)
    ids = encoding.encode("the plot " * 1000)
    variant = encoding.augment(ids, np.random.default_rng(0))
    hidden = variant == UNK
    assert 0.17 < hidden[:, 1].mean() < 0.23
    assert 0.55 < hidden[:, 0].mean() < 0.65  # 1 − 0.8 · 0.5
    assert hidden[hidden[:, 1], 0].all()
    assert (variant[~hidden] == ids[~hidden]).all()


def test_a_step_is_the_sum_of_its_ids_vectors_and_padding_is_unseen():
    torch.manual_seed(0)
    encoding = fitted()
    model = Pooled(encoding.fields["tokens"], 3, kind="gru", hidden_size=8, bidirectional=True, pooling="max").eval()
    ids = torch.from_numpy(encoding.encode(TEXTS[0]))[None]
    vectors = model.embedding.weight
    assert torch.allclose(model.rows(ids)[0, 1], vectors[ids[0, 1, 0]] + vectors[ids[0, 1, 1]])
    alone = model(ids, torch.tensor([ids.shape[1]]))
    padded = torch.cat([ids, torch.zeros(1, 4, 2, dtype=torch.int64)], dim=1)
    assert torch.allclose(alone, model(padded, torch.tensor([ids.shape[1]])), atol=1e-6)
    with pytest.raises(UserError, match="need an embedding"):
        Pooled(Field(size=9, width=2), 3, kind="gru", hidden_size=8, input="one_hot")


def test_embedding_dropout_leaves_out_words_and_stems() -> None:
    model = Pooled(Field(size=6, width=2), 2, kind="rnn", hidden_size=3, embedding_dropout=0.5)
    ids = torch.tensor([[[4, 5]]])
    assert len({tuple(model.rows(ids).flatten().tolist()) for _ in range(60)}) == 4, "each is there or not"
