"""Files of strokes: Quick, Draw!'s lines and IAM-OnDB's XML, and what isn't read of them; made handwriting."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from components.datasets.made.glyphs import GLYPHS
from components.datasets.made.handwriting import MadeHandwriting
from components.datasets.media.strokes import DEEPEST, StrokesReader
from components.encodings.base import encoding_from_state
from components.encodings.strokes import Strokes
from components.errors import UserError
from components.ink import Ink

HOUSE = {"word": "house", "recognized": True, "drawing": [[[0, 10, 10], [5, 5, 15]], [[3], [4]]]}


def lines(path: Path, *pieces: object) -> Path:
    path.write_text("".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in pieces))
    return path


def test_drawings_are_read_line_by_line_and_what_is_left_out_is_counted(tmp_path) -> None:
    long = {"drawing": [[list(range(30)), list(range(30))]]}
    path = lines(
        tmp_path / "houses.ndjson", HOUSE, "", {**HOUSE, "recognized": False}, long, {"drawing": [[[1], [2]]]}, "{",
        {"drawing": [[[0, 1], [0, 1], [7, 8]]], "text": "line"}, {"drawing": [[[0, 1], [0]]]},
        {"drawing": [[[0], ["x"]]]},
        '{"drawing": [[[0, 1e400], [0, 1]]]}', '{"drawing": [[[0, NaN], [0, 1]]]}', "[" * 100_000, "7",
        '{"drawing": [[[0, true], [0, 1]]]}', '{"drawing": [[[0, 1' + "0" * 400 + '], [0, 1]]]}',
    )  # fmt: skip
    reader = StrokesReader([path], max_points=20)
    house, line = reader.items()
    assert [stroke.tolist() for stroke in house.strokes] == [[[0, 5], [10, 5], [10, 15]], [[3, 4]]]
    assert (house.text, line.text, line.points) == ("house", "line", 2)
    assert reader.dropped == {
        "not recognized": 1, "more than 20 points": 1, "fewer than two points": 1, "isn't a drawing": 9,
    }  # fmt: skip
    assert reader.places([1]) == {1: "houses.ndjson: line 7"}
    assert len(list(StrokesReader([path], max_points=20, unrecognized=True, most=2).items())) == 2


def test_a_file_that_begins_with_no_drawing_is_refused(tmp_path) -> None:
    path = lines(tmp_path / "a.ndjson", {"a": 1})
    with pytest.raises(UserError, match=r'line 1.*no list "drawing"'):
        list(StrokesReader([path]).items())


XML = """<?xml version="1.0" encoding="UTF-8"?>
<WhiteboardCaptureSession><Transcription><Text>so &amp; so
</Text></Transcription><StrokeSet>
<Stroke colour="black"><Point x="10" y="20" time="1.5"/><Point x="12" y="19" time="1.6"/></Stroke>
<Stroke><Point x="15" y="20"/></Stroke></StrokeSet></WhiteboardCaptureSession>
"""


def test_handwriting_is_read_from_xml(tmp_path) -> None:
    (tmp_path / "a.xml").write_text(XML)
    (piece,) = StrokesReader([tmp_path]).items()
    assert piece.text == "so & so"
    assert [stroke.tolist() for stroke in piece.strokes] == [[[10, 20], [12, 19]], [[15, 20]]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('<!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>', "document type"),
        ("<a>" * (DEEPEST + 1), "nested more than"),
        ("<Stroke><Point x='1'/></Stroke>", "without x and y"),
        ("<Stroke><Point x='nan' y='1'/></Stroke>", "beyond"),
        ("<Stroke><Point x='one' y='1'/></Stroke>", "could not convert"),
        ("<Stroke>", "no element found"),
    ],
)
def test_xml_of_another_kind_is_refused(tmp_path, content, said) -> None:
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(UserError, match=said):
        list(StrokesReader([tmp_path / "a.xml"]).items())


def test_ink_comes_back_from_its_points_and_the_encoding_from_its_state() -> None:
    items = list(MadeHandwriting(count=12).items())
    encoding = Strokes(texts=True)
    encoding.fit(items)
    again = encoding_from_state(json.loads(json.dumps(encoding.state())))
    arrays = again.encode(items[0])
    ink = again.decode(arrays["points"])
    origin = items[0].strokes[0][0]
    assert len(ink.strokes) == len(items[0].strokes)
    for found, wanted in zip(ink.strokes, items[0].strokes, strict=True):
        np.testing.assert_allclose(found, wanted - origin, atol=1e-3)
    offsets = np.concatenate([again.encode(item)["points"][1:, :2] for item in items])
    assert (offsets**2).mean() == pytest.approx(1, abs=1e-5)
    assert [again.vocabulary.token(int(id)) for id in arrays["text"]] == list(items[0].text)
    ids, warnings = again.prompt(items[0].text[0] + "é")
    assert (len(ids), len(warnings)) == (1, 1)
    with pytest.raises(UserError, match="its characters"):
        again.prompt("é")


@pytest.mark.parametrize(
    ("strokes", "said"),
    [([[0.0, 0.0]], "1 points"), ([[0.0, 0.0]] * 3, "all points are equal"), ([[0.0, 0.0], [np.nan, 1.0]], "finite")],
)
def test_what_has_no_shape_is_refused(strokes, said) -> None:
    with pytest.raises(UserError, match=said):
        Strokes().encode(Ink((np.array(strokes),)))
    with pytest.raises(UserError, match="no text"):
        Strokes(texts=True).fit([Ink((np.array([[0.0, 0.0], [1.0, 1.0]]),))])


def test_made_handwriting_is_the_same_every_time_and_has_every_letter() -> None:
    first, again = (list(MadeHandwriting(count=60).items()) for _ in range(2))
    assert [item.text for item in first] == [item.text for item in again]
    assert all((a.strokes[0] == b.strokes[0]).all() for a, b in zip(first, again, strict=True))
    assert set("".join(item.text for item in first)) == {*GLYPHS, " "}
    assert MadeHandwriting(count=60).digest() != MadeHandwriting(count=60, seed=1).digest()
    heights = [item.box[3] - item.box[1] for item in first]
    assert 10 < min(heights) < max(heights) < 150
