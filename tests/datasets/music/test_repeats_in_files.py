"""Repeats in MusicXML, ABC and kern are played out; what doesn't fit is read once and told."""

from __future__ import annotations

import pytest
from test_repeats import WRITTEN

from components.datasets.files.sandbox import Refused
from components.datasets.music.formats.abc_notation import read_abc
from components.datasets.music.formats.humdrum import as_played
from components.datasets.music.formats.notation import read_notation
from components.datasets.music.formats.repeats import Bar, Misfit
from components.datasets.music.reader import MusicReader

OPTIONS = {"steps_per_beat": 12, "max_seconds": 6000.0, "beats": "file"}
PITCHES = {"A": ("C", "c"), "B": ("D", "d"), "C": ("E", "e"), "D": ("F", "f"), "E": ("G", "g"), "F": ("A", "a")}


def musicxml(bars: list[dict]) -> bytes:
    out = []
    for index, given_ in enumerate(bars):
        bar, step = Bar(**given_), PITCHES["ABCDEF"[index]][0]
        note = f"<note><pitch><step>{step}</step><octave>5</octave></pitch><duration>4</duration></note>"
        first = bar.ending and (index == 0 or bars[index - 1].get("ending") != bar.ending)
        last = bar.ending and (index + 1 == len(bars) or bars[index + 1].get("ending") != bar.ending)
        numbers = ",".join(map(str, sorted(bar.ending)))
        start = f'<ending number="{numbers}" type="start"/>' if first else ""
        stop = f'<ending number="{numbers}" type="{"stop" if bar.times > 1 else "discontinue"}"/>' if last else ""
        forward = '<repeat direction="forward"/>' * bar.forward
        times = f' times="{bar.times}"' * (bar.times > 2) + ' after-jump="yes"' * bar.after_jump
        back = f'<repeat direction="backward"{times}/>' * (bar.times > 1)
        signs = "<direction><direction-type><segno/></direction-type></direction>" * bar.segno
        signs += "<direction><direction-type><coda/></direction-type></direction>" * bar.coda
        words = ["To Coda"] * bar.to_coda + ["Fine"] * bar.fine
        words += [f"D.{bar.jump[0].upper()}." + (bar.until and f" al {bar.until}")] if bar.jump else []
        said = "".join(f"<direction><direction-type><words>{w}</words></direction-type></direction>" for w in words)
        time = "<attributes><divisions>1</divisions><time><beats>4</beats><beat-type>4</beat-type></time></attributes>"
        out.append(
            f'<measure number="{index + 1}">{time * (not index)}<barline location="left">{start}{forward}</barline>'
            f'{signs}{note}{said}<barline location="right">{stop}{back}</barline></measure>'
        )
    head = '<score-partwise><part-list><score-part id="P1"><part-name>V</part-name></score-part></part-list>'
    return f'{head}<part id="P1">{"".join(out)}</part></score-partwise>'.encode()


def abc(bars: list[dict]) -> bytes:
    text = "X:1\nM:4/4\nL:1/4\nK:C\n"
    for index, given_ in enumerate(bars):
        bar = Bar(**given_)
        if bar.forward:
            text += "|:"
        if bar.ending and (index == 0 or bars[index - 1].get("ending") != bar.ending):
            text += "[" + ",".join(map(str, sorted(bar.ending)))
        text += "!segno!" * bar.segno + "!coda!" * bar.coda + " " + PITCHES["ABCDEF"[index]][1] + "4 "
        text += "!fine!" * bar.fine + "!dacoda!" * bar.to_coda
        if bar.jump:
            sign = f"D.{bar.jump[0].upper()}."
            text += f'"^{sign} al {bar.until}"' if bar.until else f"!{sign}!"
        after = bars[index + 1].get("ending") if index + 1 < len(bars) else None
        text += ":" * (bar.times - 1) + ("||" if bar.ending and not after else "|") + "\n"
    return text.encode()


def letters(piece) -> str:
    names = {72: "A", 74: "B", 76: "C", 77: "D", 79: "E", 81: "F"}
    return "".join(names[pitch] for pitch in piece.tracks[0].notes[:, 2].tolist())


@pytest.mark.parametrize("name", WRITTEN)
def test_musicxml_and_abc_are_played_alike(name) -> None:
    bars, order = WRITTEN[name]
    (piece,) = read_notation(musicxml(bars), "a.musicxml", OPTIONS)
    assert letters(piece) == order
    assert piece.length_steps == 48 * len(order)
    if not any(bar.get("after_jump") for bar in bars):  # ABC can't say that
        (piece,) = read_abc(abc(bars), "a.abc", OPTIONS)
        assert letters(piece) == order
        assert piece.length_steps == 48 * len(order)


@pytest.mark.parametrize("name", ["two sections", "no sign at the beginning", "two endings", "da capo al fine"])
def test_music21_counts_the_same(name) -> None:
    from music21 import converter

    bars, order = WRITTEN[name]
    stream = converter.parse(musicxml(bars).decode(), format="musicxml").parts[0].expandRepeats()
    assert "".join("CDEFGAB"[note.pitch.diatonicNoteNum % 7 - 1] for note in stream.flatten().notes) == "".join(
        PITCHES[letter][0] for letter in order
    )


def kern(*lines: str) -> bytes:
    return "\n".join(["**kern", "*M4/4", *lines, "*-"]).encode()


A, B, C, D = (f"1{letter}" for letter in ("cc", "dd", "ee", "ff"))


@pytest.mark.parametrize(
    ("lines", "order"),
    [
        (["=1", A, "=2:|!", B, "=3:|!", C, "==:|!"], "AABBCC"),
        (["=1!|:", A, "=2:|!|:", B, "=3", C, "=4:|!", D, "=="], "AABCBCD"),
        (["*>[X,X1,X,X2,Y]", "*>norep[X,X2,Y]", "*>X", "=1", A, "*>X1", "=2", B, "*>X2", "=3:|!", C, "*>Y", "=4", D],
         "ABACD"),
        (["*>norep[X,Y]", "*>[X,Y,X]", "*>X", "=1", A, "*>Y", "=2", B, "=="], "ABA"),
        (["=1", A, "=2", B, "=="], "AB"),
    ],
)  # fmt: skip
def test_kern_follows_its_list_else_its_bar_lines(lines, order) -> None:
    (piece,) = read_notation(kern(*lines), "a.krn", OPTIONS)
    assert letters(piece) == order
    assert piece.length_steps == 48 * len(order)


@pytest.mark.slow
def test_kern_that_names_a_section_it_lacks_is_read_once_and_told(tmp_path) -> None:
    (tmp_path / "rag.krn").write_bytes(kern("*>[X,Z]", "*>X", "=1", A, "=2", B, "=="))
    reader = MusicReader([tmp_path], min_notes=1)
    (score,) = reader.items()
    assert score.length_steps == 96
    assert reader.notes == [
        "rag.krn, 'rag': its repeats don't fit together (there is no section Z): read once, as written"
    ]


def test_a_metre_that_holds_in_a_section_holds_when_it_comes_again() -> None:
    lines = ["*>[X,Y,X]", "*>X", "=1", A, "*>Y", "=2", "*M2/4", "2ff", "=="]
    (piece,) = read_notation(kern(*lines), "a.krn", OPTIONS)
    assert piece.metre_changes == [(48, (2, 4)), (72, (4, 4))]
    text = b"X:1\nM:4/4\nL:1/4\nK:C\n|:c4|[M:2/4]d2:|\n"
    (piece,) = read_abc(text, "a.abc", OPTIONS)
    assert piece.metre_changes == [(48, (2, 4)), (72, (4, 4)), (120, (2, 4))]


def test_an_ending_after_a_change_of_metre_is_none_the_less_one() -> None:
    text = b"X:1\nM:4/4\nL:1/4\nK:C\n|:c4|1 d4:|[M:2/4][2 e2|[M:4/4] f4|]\n"
    (piece,) = read_abc(text, "a.abc", OPTIONS)
    assert letters(piece) == "ABACD"


def test_abc_parts_are_played_in_their_order_with_the_repeats_in_them() -> None:
    text = "X:1\nP:{}\nM:4/4\nL:1/4\nK:C\nP:A\n|:c4:|\nP:B\n|:d4|1 e4:|2 f4|]\n"
    for order, expected in (("AB", "AABCBD"), ("ABA", "AABCBDAA"), ("(BA)2", "BCBDAA" * 2)):
        (piece,) = read_abc(text.format(order).encode(), "a.abc", OPTIONS)
        assert letters(piece) == expected
    (piece,) = read_abc(text.format("AC").encode(), "a.abc", OPTIONS)
    assert letters(piece) == "ABCD"
    assert "there is no part C" in piece.remarks[0]


def test_voices_without_signs_follow_the_first_one() -> None:
    text = "X:1\nM:4/4\nL:1/4\nK:C\nV:1\n|:c4|d4:|e4|\nV:2\nC4|D4|E4|\n"
    (piece,) = read_abc(text.encode(), "a.abc", OPTIONS)
    assert [track.notes[:, 2].tolist() for track in piece.tracks] == [[72, 74, 72, 74, 76], [60, 62, 60, 62, 64]]


def test_a_segno_in_quotes_and_voices_within_parts_are_read() -> None:
    (piece,) = read_abc(b'X:1\nM:4/4\nL:1/4\nK:C\nc4|"Segno"d4|e4 "_D.S."|]\n', "a.abc", OPTIONS)
    assert (letters(piece), piece.left_out) == ("ABCBC", {})
    (piece,) = read_abc(b"X:1\nM:4/4\nL:1/4\nK:C\nc4|Sd4|e4 !D.S.!|]\n", "a.abc", OPTIONS)
    assert letters(piece) == "ABCBC"
    text = b"X:1\nP:ABA\nM:4/4\nL:1/4\nQ:1/4=90\nK:C\nP:A\n[V:1] c4|\n[V:2] C4|\nP:B\n[V:1] d4|\n[V:2] D4|\n"
    (piece,) = read_abc(text, "a.abc", OPTIONS)
    assert [track.notes[:, 2].tolist() for track in piece.tracks] == [[72, 74, 72], [60, 62, 60]]
    assert piece.remarks == []


@pytest.mark.parametrize("order", ["", " , ", "A,X"])
def test_a_list_of_sections_that_cannot_be_played_costs_no_bar(order: str) -> None:
    text = f"**kern\n*>[{order}]\n*M4/4\n*>A\n=1\n1c\n*>B\n=2\n1d\n==\n*-\n"
    with pytest.raises(Misfit, match="no section"):
        as_played(text)


def test_repeats_of_scores_whose_bars_cannot_be_told_apart_are_told() -> None:
    one = musicxml([{"forward": True}, {"times": 2}, {}]).decode()
    part = one[one.index("<part id") : one.index("</part>")]
    shorter = part[: part.rindex("<measure")].replace("P1", "P2") + "</part></score-partwise>"
    names = '<score-part id="P2"><part-name>low</part-name></score-part></part-list>'
    two = one.replace("</part-list>", names).replace("</score-partwise>", shorter)
    within = one.replace('<barline location="right">', '<barline location="middle">')
    options = {"steps_per_beat": 4, "max_seconds": 1800.0}
    (whole,) = read_notation(one.encode(), "a.musicxml", options)
    assert len(letters(whole)) == 5
    for text, why in ((two, "different numbers of bars"), (within, "within a bar")):
        (piece,) = read_notation(text.encode(), "a.musicxml", options)
        assert any(why in remark for remark in piece.remarks)
        assert len(letters(piece)) == 3


def measures(*bodies: str) -> str:
    whole = musicxml([{}] * len(bodies)).decode()
    for number, body in enumerate(bodies, 1):
        head, tail = whole.split(f'<measure number="{number}">')
        old = tail[tail.index("<note>") : tail.index("</note>") + len("</note>")]
        whole = f'{head}<measure number="{number}">{tail.replace(old, body or old, 1)}'
    return whole


REST = '<note><rest measure="yes"/><duration>4</duration></note>'
AS_BEFORE = "<attributes><measure-style><measure-repeat type='{}'>{}</measure-repeat></measure-style></attributes>"


@pytest.mark.parametrize(
    ("bodies", "order"),
    [
        (["", AS_BEFORE.format("start", 1) + REST, REST, AS_BEFORE.format("stop", "") + REST], "AAA"),
        (["", "", AS_BEFORE.format("start", 2) + REST, REST, AS_BEFORE.format("stop", ""), ""], "ABABF"),
        (["", AS_BEFORE.format("start", 1) + "<note/>", ""], "AAC"),
    ],
)
def test_bars_that_repeat_those_before_them_sound(bodies, order) -> None:
    (piece,) = read_notation(measures(*bodies).encode(), "a.musicxml", OPTIONS)
    assert letters(piece) == order
    assert not piece.left_out


def test_bars_that_repeat_what_is_not_there_and_cue_notes_are_counted() -> None:
    lost = measures(AS_BEFORE.format("start", 1) + REST, AS_BEFORE.format("stop", "") + REST, "")
    (piece,) = read_notation(lost.encode(), "a.musicxml", OPTIONS)
    assert (letters(piece), piece.left_out) == ("C", {"bar that repeats those before it (left empty)": 1})
    (piece,) = read_notation(measures("", "").replace("<note>", "<note><cue/>", 1).encode(), "a.musicxml", OPTIONS)
    assert (letters(piece), piece.left_out) == ("B", {"cue note": 1})
    slash = "<notehead>slash</notehead></note>"
    (piece,) = read_notation(measures("", "").replace("</note>", slash, 1).encode(), "a.musicxml", OPTIONS)
    assert (letters(piece), piece.left_out) == ("B", {"slash: a rhythm without a pitch": 1})


def test_durations_without_a_unit_are_refused() -> None:
    with pytest.raises(Refused, match="divisions"):
        read_notation(measures("").replace("<divisions>1</divisions>", "").encode(), "a.musicxml", OPTIONS)
