"""Batches: every token once, in windows that join, in an order that only (seed, epoch, index) decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.datasets.batches.truncated import SequenceBatches, StreamBatches, batches
from components.datasets.store import Sequences
from components.encodings.characters import Characters
from components.encodings.vocabulary import PAD


def encoding() -> Characters:
    made = Characters()
    made.fit(["abcdefghij"])
    return made


def packed(lengths: list[int]) -> Sequences:
    """Sequences whose tokens are all different, so that each can be found again."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sequences(np.arange(1, offsets[-1] + 1).astype(np.uint32), offsets)


sizes = {"batch_size": st.integers(1, 9), "window": st.integers(1, 12), "seed": st.integers(0, 99)}


@given(length=st.integers(2, 200), **sizes)
def test_a_stream_is_evaluated_token_by_token_once(length, batch_size, window, seed) -> None:
    made = StreamBatches(packed([length]), encoding(), batch_size=batch_size, window=window, seed=seed, training=False)
    targets = np.concatenate([batch.targets_BT.ravel() for batch in made.epoch()])
    assert sorted(targets[targets != PAD]) == list(range(2, length + 1))


@given(length=st.integers(2, 200), epoch=st.integers(0, 3), **sizes)
def test_a_training_epoch_of_a_stream_joins_up(length, epoch, batch_size, window, seed) -> None:
    made = StreamBatches(packed([length]), encoding(), batch_size=batch_size, window=window, seed=seed, training=True)
    lanes = None
    for batch in made.epoch(epoch):
        inputs = batch.inputs_BTS[..., 0]
        assert (batch.targets_BT == inputs + 1).all()
        assert batch.fresh == (lanes is None)
        if lanes is not None:
            assert (inputs[:, 0] == lanes).all(), "the state belongs to the tokens before"
        lanes = batch.targets_BT[:, -1]
        assert inputs.shape[1] <= window
        assert inputs.min() > PAD


@given(lengths=st.lists(st.integers(2, 40), min_size=1, max_size=30), training=st.booleans(), **sizes)
def test_every_sequence_is_read_whole_and_once(lengths, training, batch_size, window, seed) -> None:
    sequences = packed(lengths)
    made = SequenceBatches(sequences, encoding(), batch_size=batch_size, window=window, seed=seed, training=training)
    for epoch in (0, 1):
        rows: list[list[int]] = []
        whole: list[list[int]] = []
        for batch in made.epoch(epoch):
            if batch.fresh:
                whole += rows
                rows = [[int(first)] for first in batch.inputs_BTS[:, 0, 0]]
            assert batch.inputs_BTS.shape[1] <= window
            for row, inputs, targets in zip(rows, batch.inputs_BTS[..., 0], batch.targets_BT, strict=True):
                for x, y in zip(inputs, targets, strict=True):
                    if y != PAD:
                        assert x == row[-1]
                        row.append(int(y))
        whole += rows
        assert sorted(whole) == [list(map(int, sequences[i])) for i in range(len(sequences))]


@pytest.mark.slow
@given(lengths=st.lists(st.integers(2, 40), min_size=3, max_size=30), **sizes)
def test_the_order_is_a_function_of_seed_epoch_and_index(lengths, batch_size, window, seed) -> None:
    def make():
        return SequenceBatches(
            packed(lengths), encoding(), batch_size=batch_size, window=window, seed=seed, training=True
        )

    straight, jumping = make(), make()
    places = [(epoch, index) for epoch in (0, 1, 2) for index in range(straight.count(epoch))]
    forward = [straight.at(*place) for place in places]
    for place, expected in reversed(list(zip(places, forward, strict=True))):
        batch = jumping.at(*place)
        assert (batch.inputs_BTS == expected.inputs_BTS).all()
        assert batch.fresh == expected.fresh


def test_like_lengths_meet_and_little_is_padding() -> None:
    rng = np.random.default_rng(0)
    made = SequenceBatches(
        packed(rng.integers(2, 400, 500).tolist()), encoding(), batch_size=16, window=64, seed=0, training=True
    )
    cells = padding = 0
    for batch in made.epoch():
        cells += batch.targets_BT.size
        padding += int((batch.targets_BT == PAD).sum())
    assert padding / cells < 0.12


def test_an_empty_split_has_no_batches_and_framing_chooses_the_kind() -> None:
    empty = Sequences(np.zeros(0, np.uint16), np.zeros(1, np.int64))
    for framing, kind in (("stream", StreamBatches), ("sequences", SequenceBatches)):
        made = batches(framing, empty, encoding(), batch_size=4, window=8, seed=0, training=False)
        assert isinstance(made, kind)
        assert made.count(0) == 0


def test_augmentation_differs_by_epoch_and_never_in_evaluation() -> None:
    class Shifting(Characters):
        def augment(self, ids, rng):
            return ids + rng.integers(0, 1000)

    shifting = Shifting()
    shifting.fit(["ab"])
    arguments = {"batch_size": 1, "window": 50, "seed": 0}
    train = SequenceBatches(packed([20]), shifting, training=True, **arguments)
    first, second = (int(train.at(epoch, 0).inputs_BTS[0, 0, 0]) for epoch in (0, 1))
    assert first != second
    test = SequenceBatches(packed([20]), shifting, training=False, **arguments)
    assert int(test.at(0, 0).inputs_BTS[0, 0, 0]) == 1


@pytest.mark.parametrize("window", [1, 7, 100])
def test_the_context_is_that_of_the_whole_sequence(window) -> None:
    from components.encodings.chorale.encoding import Chorale
    from components.score import Note, Part, Score

    chorale = Chorale()
    parts = tuple(Part(n, (Note(0, 4, p), Note(4, 16, p + 2))) for n, p in zip("SATB", (67, 62, 55, 48), strict=True))
    ids = np.concatenate([[2], chorale.encode(Score(parts, length_steps=20, upbeat_steps=4)), [3]])
    store = Sequences(ids.astype(np.uint16), np.array([0, len(ids)]))
    made = SequenceBatches(store, chorale, batch_size=1, window=window, seed=0, training=False)
    got = np.concatenate([batch.inputs_BTS[0, :, 1:] for batch in made.epoch()])
    assert (got == chorale.context(ids)[:-1]).all()
    assert sum(batch.units["frame"] for batch in made.epoch()) == 20
