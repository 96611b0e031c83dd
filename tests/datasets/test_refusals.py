"""One sequence that an encoding can't take costs no other: it is left out by place and reason."""

from __future__ import annotations

import numpy as np
import pytest
from music_files import CHORDS, TUNE, midi

from components.datasets.base import Reader
from components.datasets.ingest import ingest
from components.datasets.refusals import Refusals
from components.datasets.store import Store
from components.errors import UserError

HYMN = """X:1
T:{title}
M:4/4
L:1/4
K:C
V:1
c d e c|{tune}|
V:2
G G G G|G G G4|
V:3
E D C C|E D C4|
V:4
C, B,, C, E,|C, G,, C,4|
"""
SPLIT = [0.6, 0.2, 0.2]


class Frames(Reader):
    framing = "sequences"

    def __init__(self, widths):
        super().__init__([])
        self.widths = widths

    def items(self):
        return (np.ones((3, width), dtype=np.float32) for width in self.widths)


def ingested(tmp_path, path, encoding, **data):
    given = {"path": str(path), "reader": "music", "split": SPLIT, "min_notes": 4} | data
    return Store.open(ingest(given, encoding, root=tmp_path, cache_dir=tmp_path / "cache", seed=0).path)


def hymns(folder, count):
    folder.mkdir()
    for index in range(count):
        tune = " ".join("cdefgab"[(index + step) % 7] for step in range(3)) + " c"
        (folder / f"hymn{index}.abc").write_text(HYMN.format(title=f"Hymn {index}", tune=tune))
    return folder


@pytest.mark.slow
def test_a_trio_among_chorales_is_left_out_by_path_and_reason(tmp_path) -> None:
    folder = hymns(tmp_path / "hymns", 5)
    alone = ingested(tmp_path, folder, {"kind": "chorale"})
    trio = HYMN.format(title="Hymn of three", tune="c B A c").split("V:4")[0]
    (folder / "trio.abc").write_text(trio)
    both = ingested(tmp_path, folder, {"kind": "chorale"})
    assert both.manifest["digests"]["content"] == alone.manifest["digests"]["content"]
    assert both.manifest["dropped"] == {"has n parts, but a chorale needs four": 1}
    assert "trio.abc left out: has 3 parts, but a chorale needs four" in both.manifest["notes"]
    (row,) = [row for row in both.manifest["report"] if not row["read"]]
    assert (row["file"], row["reason"]) == ("trio.abc", "has 3 parts, but a chorale needs four")
    assert len(both.manifest["report"]) == 6


@pytest.mark.slow
def test_one_long_piece_among_short_ones_is_left_out(tmp_path) -> None:
    folder = tmp_path / "tunes"
    for index in range(4):
        midi(folder / f"short{index}.mid", ("", 0, [(s, d, p + index * (s > 3)) for s, d, p in TUNE]))
    long = [(beat, 0.9, 60 + beat % 12) for beat in range(0, 5600, 7)]
    midi(folder / "long.mid", ("", 0, long), tempi=((0, 400),))
    store = ingested(tmp_path, folder, {"kind": "lead_sheet"})
    assert store.manifest["dropped"] == {"n beats, more than the limit of n": 1}
    assert any(note.startswith("long.mid left out: 5,59") for note in store.manifest["notes"])


@pytest.mark.slow
def test_nothing_left_is_an_error_that_names_the_reasons(tmp_path) -> None:
    folder = tmp_path / "tunes"
    for index in range(3):
        midi(folder / f"t{index}.mid", ("", 0, [(s, d, p + index * (s > 3)) for s, d, p in TUNE]), ("", 0, CHORDS))
    with pytest.raises(
        UserError, match=r"none of 3 sequences can be encoded as chorale: 3 × has n parts(.|\n)*t0\.mid: has 2"
    ):
        ingested(tmp_path, folder, {"kind": "chorale"})


@pytest.mark.slow
def test_of_several_pieces_in_a_file_the_title_is_named(tmp_path) -> None:
    folder = hymns(tmp_path / "hymns", 3)
    text = (folder / "hymn0.abc").read_text()
    (folder / "hymn0.abc").write_text(text + "\n" + text.replace("Hymn 0", "Five").replace("M:4/4", "M:5/4"))
    notes = ingested(tmp_path, folder, {"kind": "chorale"}).manifest["notes"]
    assert any(note.startswith("hymn0.abc, 'Five' left out: the metre 5/4") for note in notes)


class Learner:
    kind = "frames"

    def fit(self, items):
        for item in items:
            if item.shape[1] != 2:
                raise UserError(f"{item.shape[1]} features")


def test_what_is_refused_while_learning_is_left_out_too() -> None:
    found = Refusals({None: Frames([2, 3, 2, 4])})
    reader = found.readers[None]
    for _ in range(3):
        try:
            Learner().fit(reader.items())
        except UserError as error:
            found.refuse(error)
    assert [item.shape[1] for item in reader.items()] == [2, 2]
    assert reader.notes == ["item 2 left out: 3 features", "item 4 left out: 4 features"]
    assert [row["reason"] for row in reader.report] == ["3 features", "4 features"]


def test_a_row_is_named_by_its_line(tmp_path) -> None:
    rows = "".join(
        f"{label},{bases}\n"
        for label, bases in [("a", "ACGT"), ("", "ACG"), ("b", "AXGT"), ("a", "GGTT"), ("b", "TTTT")]
    )
    (tmp_path / "sites.csv").write_text("label,text\n" + rows)
    data = {"path": "sites.csv", "reader": "table", "input": "text", "target": "label", "split": [1, 0, 0]}
    encoding = {"kind": "pair", "input": {"kind": "bases"}, "target": {"kind": "labels"}}
    store = Store.open(ingest(data, encoding, root=tmp_path, cache_dir=tmp_path / "cache", seed=0).path)
    (note,) = [note for note in store.manifest["notes"] if "left out" in note]
    assert note.endswith("sites.csv: line 4 left out: 'X' isn't a base")
    assert store.manifest["dropped"]["no label"] == 1


def test_settings_that_suit_no_item_end_soon(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(f"line {index}" for index in range(500)))
    data = {"path": "a.txt", "reader": "lines"}
    with pytest.raises(UserError, match=r"no base|none of 500"):
        ingest(data, {"kind": "bases"}, root=tmp_path, cache_dir=tmp_path / "cache", seed=0)


def test_a_stream_loses_no_part() -> None:
    class Stream(Frames):
        framing = "stream"

    found = Refusals({None: Stream([2, 3])})
    list(found.readers[None].items())
    with pytest.raises(UserError, match="odd"):
        found.refuse(UserError("odd"))


@pytest.mark.slow
@pytest.mark.parametrize("odd", [0, 11])
def test_series_of_other_widths_are_refused_whichever_comes_first(odd: int, tmp_path) -> None:
    draw = np.random.default_rng(1)
    for at in range(12):
        path = tmp_path / "xy"[at % 2] / f"{at:02}.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, draw.normal(size=(9, 4 if at == odd else 3)))
    data = {"path": ".", "reader": "frame-files"}
    encoding = {"kind": "pair", "input": {"kind": "frames"}, "target": {"kind": "labels"}}
    with pytest.raises(UserError, match=r"\.npy: a sequence has \d features per step, but the first one has \d"):
        ingest(data, encoding, root=tmp_path, cache_dir=tmp_path / "cache", seed=0)
