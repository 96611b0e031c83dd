"""The likelihood of given texts and pieces: exact, by token, from the command line and from Python."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from small_models import WRITERS, save
from task_pairs import PAIRS

from components.bundle import Bundle, load_bundle
from components.encodings.vocabulary import UNK
from components.errors import UserError
from components.score import Note, Part, Score
from components.use.scoring import items_of, score, write_scores


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    root = tmp_path_factory.mktemp("scoring")
    found = {}
    for name in ("names", "tales", "four-voices", "rolls"):
        assert name in WRITERS
        save(root / name, name)
        found[name] = load_bundle(root / name)
    return found


def test_the_chances_of_all_ways_to_go_on_add_up_to_one(opened) -> None:
    bundle = opened["names"]
    letters = [token for token in bundle.encoding.vocabulary.tokens if len(token) == 1]
    whole = score(bundle, [f"ma{letter}" for letter in letters])
    # of the third token; beside the letters there are the end and the specials
    third = [math.exp(-one.nats[2]) for one in whole]
    end = math.exp(-score(bundle, ["ma"])[0].nats[2])
    unknown = math.exp(-score(bundle, ["ma€"])[0].nats[2])
    assert sum(third) + end + unknown < 1
    assert sum(third) + end + unknown > 0.8, "what is left are PAD and BOS"
    for one in whole:
        assert np.allclose(one.nats[:2], whole[0].nats[:2]), "a token depends on those before it only"


def test_figures_are_of_the_same_nats(opened) -> None:
    (one,) = score(opened["names"], ["mathe"])
    assert [*one.tokens] == [*"mathe", "<EOS>"]
    assert one.total_nats == pytest.approx(one.nats.sum())
    assert one.bits_per_token == pytest.approx(one.nats_per_token / math.log(2))
    assert one.perplexity == pytest.approx(math.exp(one.nats_per_token))
    assert "6 chars" in one.line()


def test_a_table_that_is_called_as_the_picture_beside_it_is_refused(opened, monkeypatch) -> None:
    from components.runs import score as runs

    monkeypatch.setattr(runs, "open_model", lambda model, device: SimpleNamespace(bundle=opened["names"], label="x"))
    with pytest.raises(UserError, match=r"use a name that ends in \.csv"):
        runs.score_files("names", ["ma"], None, out="scores.png")


def test_what_the_model_does_not_know_is_counted(opened) -> None:
    (one,) = score(opened["names"], ["m€a€"])
    assert one.unknown == 2
    assert one.ids[1] == UNK
    assert "2 unknown" in one.line()


def test_a_long_text_is_one_item_and_its_first_token_is_not_scored(opened, tmp_path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat.\n" * 50, encoding="utf-8")
    bundle = replace(opened["tales"], recipe={**opened["tales"].recipe, "data": {"reader": "text"}})
    items, notes = items_of(bundle, path)
    assert not notes
    assert len(items) == 1
    assert items[0].count("mat.") == 50
    (one,) = score(bundle, items)
    assert len(one.nats) == len(items[0]) - 1
    write_scores(tmp_path / "out.csv", [one])
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(one.nats)
    assert [row["token"] for row in rows[:3]] == ["h", "e", " "]
    assert float(rows[5]["nats"]) == pytest.approx(one.nats[5], abs=1e-5)


def test_each_line_is_scored_and_what_is_left_out_is_told(opened, tmp_path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("mathe\nmathe\n\ncab\n" + "x" * 2000 + "\n", encoding="utf-8")
    items, notes = items_of(opened["names"], path)
    assert items == ["mathe", "mathe", "cab"]
    assert any("1 × " in note for note in notes), notes
    path.write_text("x" * 2000 + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="the reader lines can't read anything") as caught:
        items_of(opened["names"], path)
    assert "left out: 1" in caught.value.hint


def test_windows_change_nothing(opened, monkeypatch) -> None:
    text = "the cat sat on the mat. " * 9
    whole = score(opened["tales"], [text])[0].nats
    monkeypatch.setattr("components.tasks.surprise.WINDOW", 50)
    assert np.allclose(score(opened["tales"], [text])[0].nats, whole, atol=1e-5)


def test_a_piece_of_music_is_scored(opened) -> None:
    voices = [Part(str(n), tuple(Note(i * 4, 4, 60 - 5 * n, 80) for i in range(8))) for n in range(4)]
    (one,) = score(opened["four-voices"], [Score(tuple(voices), steps_per_beat=4, length_steps=32)])
    assert len(one.nats) > 32
    assert np.isfinite(one.nats).all()


@pytest.mark.parametrize(
    ("name", "item", "said"),
    [
        ("rolls", "x", "can't score: its task is frame_model"),
        ("tales", "", "has 0 chars; 2 to 1,000,000"),
        ("names", 7, "item 1 of 1.*can't read"),
    ],
)
def test_what_can_not_be_scored_is_refused(opened, name, item, said) -> None:
    with pytest.raises(UserError, match=said):
        score(opened[name], [item])


def test_a_model_that_copies_is_told_what_could_be_copied() -> None:
    pair = PAIRS["lead sheet, copying"]
    task, model, _ = pair.build()
    bundle = Bundle("tunes", model.eval(), task.encoding, task, {"task": {"kind": "music"}}, {}, "")
    (one,) = score(bundle, pair.items[:1])
    assert len(one.nats) == len(task.encoding.encode(pair.items[0])) + 1
    assert np.isfinite(one.nats).all()
    (kept,) = bundle.states(pair.items[:1])
    assert kept["layer_1"].shape == (len(one.nats), 8)


def test_scores_are_not_written_over_the_texts(opened, tmp_path) -> None:
    (tmp_path / "a.txt").write_text("the cat", encoding="utf-8")
    with pytest.raises(UserError, match="it is also the input"):
        items_of(opened["names"], tmp_path, tmp_path / "a.txt")
