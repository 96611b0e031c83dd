"""Tunes of one family are found in any key, rhythm and order, and stay on one side of a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.datasets.base import Reader
from components.datasets.families import LEAST, LEAST_TITLED, LENGTH, NEXT, families, intervals
from components.datasets.folds import fold_split
from components.datasets.music.chorales import CorpusChoralesReader
from components.datasets.refusals import Refusals
from components.datasets.splits import given_split, group_split, told_of_families
from components.encodings.chorale.encoding import Chorale
from components.score import Note, Part, Score


def tune(rng: np.random.Generator, notes: int = 48) -> list[int]:
    """Pitches of a made melody: mostly steps, some leaps, some pitches repeated."""
    return (48 + np.abs(np.cumsum(rng.choice([-4, -3, -2, -1, 0, 1, 2, 3, 5], notes)) % 48 - 24)).tolist()


def score(pitches: Sequence[int], durations: Sequence[int] = (4,), title: str = "") -> Score:
    notes, start = [], 0
    for index, pitch in enumerate(pitches):
        notes.append(Note(start, durations[index % len(durations)], pitch))
        start += notes[-1].duration
    return Score((Part("", tuple(notes)),), length_steps=start, title=title)


def renderings(pitches: list[int], rng: np.random.Generator) -> list[Score]:
    """The tune, in another key, in another rhythm, cut short, and with pitches repeated and a note changed."""
    changed = [pitch for pitch in pitches for _ in range(int(rng.integers(1, 3)))]
    changed[int(rng.integers(len(changed)))] += 1
    other_key = int(rng.integers(-9, 9))
    return [
        score(pitches),
        score([pitch + other_key for pitch in pitches]),
        score(pitches, durations=(3, 1, 2)),
        score(pitches[8:-10]),
        score(changed),
    ]


def partition(found: np.ndarray, order: np.ndarray | None = None) -> set[frozenset[int]]:
    """The families as sets of indices; `order`: where each melody stood before."""
    order = np.arange(len(found)) if order is None else order
    return {frozenset(order[found == family].tolist()) for family in set(found.tolist())}


@pytest.mark.slow
@settings(max_examples=20)
@given(st.integers(0, 2**31), st.integers(1, 6))
def test_renderings_are_one_family_and_made_tunes_are_not_whatever_the_order(seed: int, tunes: int) -> None:
    rng = np.random.default_rng(seed)
    lines = [intervals(one) for _ in range(tunes) for one in renderings(tune(rng), rng)]
    found = families(lines, [""] * len(lines))
    assert found.tolist() == [index // 5 for index in range(5 * tunes)]
    order = rng.permutation(len(lines))
    assert partition(families([lines[at] for at in order], [""] * len(lines)), order) == partition(found)


def test_a_melody_is_its_top_notes_without_repeats_drums_and_accompaniment() -> None:
    notes = (Note(0, 4, 60), Note(0, 4, 72), Note(4, 4, 72), Note(8, 4, 74), Note(8, 4, 55), Note(12, 4, 34))
    drums, other = Part("", (Note(0, 4, 36),), role="drums"), Part("", (Note(0, 4, 40), Note(4, 4, 50)), role="bass")
    assert intervals(Score((drums, other, Part("", notes, role="melody")))).tolist() == [2, -24]
    assert intervals(Score((drums, Part("", notes)))).tolist() == [2, -24]
    assert intervals(Score((drums,))).tolist() == intervals(Score((Part("", ()),))).tolist() == []


@pytest.mark.slow
def test_a_share_of_rare_patterns_is_needed_and_more_of_a_short_melody() -> None:
    rng = np.random.default_rng(3)
    long, others = tune(rng, 120), [intervals(score(tune(rng))) for _ in range(30)]

    def joined(shared: int, own: int) -> bool:
        line = intervals(score(long))[: shared + LENGTH - 1]
        mixed = np.concatenate([line, [11, *intervals(score(tune(rng, 3 * own + 9)))[:own].tolist()]])
        found = families([intervals(score(long)), mixed, *others], [""] * 32)
        return found[0] == found[1]

    assert joined(20, 40), "20 of some 70 patterns"
    assert not joined(7, 80), "7 of some 100: phrases that tunes have in common"
    assert not joined(8, 22), "8 of some 40: what two hymns share"
    assert joined(12, 8), "12 of some 30"
    assert not joined(LEAST - 1, 0), "too little to tell"


@pytest.mark.slow
def test_one_title_needs_few_patterns_but_some_and_isnt_the_title_of_everything() -> None:
    rng = np.random.default_rng(5)
    line, stranger = intervals(score(tune(rng))), intervals(score(tune(rng)))
    related = np.concatenate([line[: LENGTH + LEAST_TITLED - 1], [11], stranger[:20]])
    assert len(set(families([line, related], ["", ""]))) == 2
    assert len(set(families([line, related], ["air", "air"]))) == 1
    assert len(set(families([line, related], ["air", "reel"]))) == 2
    assert len(set(families([line, stranger], ["air", "air"]))) == 2, "a title alone joins nothing"
    many = [intervals(score(tune(rng))) for _ in range(NEXT)]
    assert len(set(families([line, related, *many], ["untitled"] * (NEXT + 2)))) == NEXT + 2


@pytest.mark.slow
def test_a_large_family_stays_whole_and_what_is_too_short_stays_alone() -> None:
    rng = np.random.default_rng(7)
    base = tune(rng, 80)
    variants = [[*base[:at], base[at] + 1, *base[at + 1 :]] for at in range(3, 3 + 2 * NEXT)]
    lines = [intervals(score(pitches)) for pitches in variants]
    assert len({line.tobytes() for line in lines}) > NEXT
    assert set(families(lines, [""] * len(lines))) == {0}
    short = [np.array([2, 2]), np.array([2, 2]), np.zeros(0, np.int64)]
    assert families(short, ["a", "a", "a"]).tolist() == [0, 1, 2]
    assert families([], []).tolist() == []


class Listed(Reader):
    """Scores; the same notes are one group."""

    framing = "sequences"

    def __init__(self, scores: list[Score], *, families: bool = True) -> None:
        super().__init__([])
        self.scores, self.families = scores, families

    def items(self) -> Iterator[Score]:
        return iter(self.scores)

    def group(self, item: Score) -> str:
        return repr(item.parts)

    def family_title(self, item: Score) -> str:
        return item.title


def made(tunes: int) -> list[Score]:
    rng = np.random.default_rng(1)
    scores = [one for _ in range(tunes) for one in renderings(tune(rng), rng)]
    return [*scores, *[score(tune(rng)) for _ in range(5 * tunes)], score([60] * 9), score([60] * 9)]


@pytest.mark.slow
def test_a_family_is_on_one_side_splits_keep_their_size_and_it_is_told() -> None:
    scores = made(20)
    for seed in range(2):
        reader = Refusals({None: Listed(scores)}).readers[None]  # as ingestion sees it
        sides = [split for split, _ in group_split(reader, [0.8, 0.1, 0.1], seed)()]
        assert all(len(set(sides[at : at + 5])) == 1 for at in range(0, 100, 5))
        assert sides[-1] == sides[-2], "the same piece, too short for a pattern"
        for split, share in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
            assert sides.count(split) / len(sides) == pytest.approx(share, abs=0.04)
        (told,) = told_of_families([reader])
        assert told == "202 pieces in 121 families of tunes, the largest 5: each is on one side of the split"
    sides = [split for split, _ in group_split(Listed(scores, families=False), [0.8, 0.1, 0.1], 0)()]
    assert any(len(set(sides[at : at + 5])) > 1 for at in range(0, 100, 5))


@pytest.mark.slow
def test_folds_keep_families_together_across_files_and_a_given_split_is_told() -> None:
    scores = made(6)
    readers = {"train": Listed(scores[::2]), "test": Listed(scores[1::2])}
    order = [*range(0, len(scores), 2), *range(1, len(scores), 2)]
    tested = Counter()
    for fold in range(1, 5):
        dealt = fold_split(readers, Chorale(), [0.6, 0.15, 0.25], 0, (fold, 4))()
        sides = dict(zip(order, (split for split, _ in dealt), strict=True))
        assert all(len({sides[at] for at in range(start, start + 5)}) == 1 for start in range(0, 30, 5))
        tested.update(at for at, side in sides.items() if side == "test")
    assert tested == Counter(range(len(scores)))
    assert len(told_of_families(readers.values())) == 1
    readers = {split: Listed(scores[at::3]) for at, split in enumerate(("train", "val", "test"))}
    list(given_split(readers, Chorale(), [0.8, 0.1, 0.1], 0)())
    assert told_of_families(readers.values()) == ["data.families has no effect, since the files define the splits"]
    assert told_of_families([Listed(scores, families=False)]) == []


def test_hymns_are_called_by_their_title_without_a_number() -> None:
    reader = CorpusChoralesReader(families=True)
    titles = [reader.family_title(Score((), title=f"Nun danket {number}")) for number in ("(BWV 386)", "(BWV 79.3)")]
    assert reader.families
    assert titles == ["nun danket"] * 2
