"""Predicting: a bundle's answers to items, and to the rows of files; nothing that is asked gets lost."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import Silent

from components.answers import read
from components.bounds import MAX_STEPS
from components.bundle import Bundle, load_bundle, save_bundle
from components.datasets.ingest import ingest
from components.datasets.series.labelled import FrameFilesReader
from components.datasets.store import Store
from components.encodings.characters import Characters
from components.errors import UserError
from components.recipe import Recipe
from components.runs.predict import Request, predict, tell
from components.training.session import Session
from components.use import table as module
from components.use.files import reader_for
from components.use.lines import answer_texts
from components.use.table import cells, predict_file

WORDS = ["good", "fine", "bad", "poor"]


def train(tmp_path: Path, name: str, data: dict, inputs: dict, target: dict, task: dict | str, **model) -> Bundle:
    """A bundle that went through the files, from a small data set of our own."""
    recipe = Recipe.from_dict(
        name,
        {
            "data": data,
            "encoding": {"kind": "pair", "input": inputs, "target": target},
            "task": {"kind": task} if isinstance(task, str) else task,
            "model": {"kind": "gru", "hidden_size": 12, **(model or {"input": "one_hot"})},
            "training": {"steps": 120, "batch_size": 16, "learning_rate": 2e-2},
            "evaluation": {"every": 60},
        },
    )
    ref = ingest(recipe.data, recipe.encoding, root=tmp_path, cache_dir=tmp_path / "cache", seed=0)
    session = Session(recipe, Store.open(ref.path), "cpu", 1)
    session.train(tmp_path / "run", Silent())
    folder = tmp_path / "bundle"
    save_bundle(folder, name, session.model, session.encoding, recipe.as_dict(), {"framing": "sequences"})
    return load_bundle(folder)


@pytest.fixture(scope="module")
def mood(tmp_path_factory) -> Bundle:
    """Is the first word of a text good or bad?"""
    folder = tmp_path_factory.mktemp("mood")
    rng = np.random.default_rng(0)
    rows = [("text", "mood")]
    for number in range(200):
        first = WORDS[number % 4]
        rows.append((f"{first} {' '.join(rng.choice(['film', 'book', 'song'], 3))} {number}", str(int(number % 4 < 2))))
    path = folder / "mood.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    data = {"path": str(path), "reader": "table", "labels": {"0": "sad", "1": "glad"}}
    return train(folder, "mood", data, {"kind": "words"}, {"kind": "labels"}, "classification")


@pytest.fixture(scope="module")
def signs(tmp_path_factory) -> Bundle:
    """Does a series go up or down?"""
    folder = tmp_path_factory.mktemp("signs")
    rng = np.random.default_rng(0)
    lines = []
    for number in range(120):
        series = rng.normal(0, 0.1, (5, 2)) + (1 if number % 2 else -1) * np.arange(5)[:, None]
        lines.append(",".join(f"{value:.4f}" for value in series.ravel()) + f",{'up' if number % 2 else 'down'}")
    (folder / "signs.csv").write_text("\n".join(lines), encoding="utf-8")
    data = {"path": str(folder / "signs.csv"), "reader": "series-rows", "features": 2, "steps": 5}
    return train(folder, "signs", data, {"kind": "frames"}, {"kind": "labels"}, "classification")


def answered(bundle: Bundle, path: Path, column: str | None = None) -> tuple[list[dict[str, str]], dict[str, int]]:
    out = path.with_name("answers.csv")
    counts = predict_file(bundle, reader_for(path, bundle.recipe["data"], column), out)
    with out.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file)), dict(counts)


@pytest.mark.slow
def test_texts_are_answered_in_their_order_with_a_probability(mood) -> None:
    answers = mood.predict(["bad song", "good", "poor film book", "fine"])
    assert [answer["label"] for answer in answers] == ["sad", "glad", "sad", "glad"]
    assert all(0.5 < answer["probability"] <= 1 for answer in answers)
    assert mood.predict([]) == []


@pytest.mark.slow
def test_a_table_comes_back_with_its_own_columns_and_the_answers(mood, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "ROWS", 2)  # so that rows come in several blocks
    path = tmp_path / "ask.csv"
    path.write_text(
        'id,text,mood\n7,"good, I say",1\n8,,0\n9,bad song,\n1,2,3,4\n"x"y,2\n10,fine,1\n', encoding="utf-8"
    )
    rows, counts = answered(mood, path, "text")
    assert [(row["id"], row["predicted"], row["problem"]) for row in rows] == [
        ("7", "glad", ""),
        ("8", "", "no input"),
        ("9", "sad", ""),
        ("1", "", "more fields than columns"),
        ('"x"y,2', "", "quotes out of place"),
        ("10", "glad", ""),
    ], "a row for each row of the file, in its order"
    assert list(rows[0]) == ["id", "text", "mood", "predicted", "probability", "problem"]
    assert float(rows[0]["probability"]) > 0.5
    unread = {f"not read: {why}": 1 for why in ("no input", "more fields than columns", "quotes out of place")}
    assert counts == {"glad": 2, "sad": 1, **unread}
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_the_columns_of_the_file_stay_and_ours_take_other_names(mood, tmp_path) -> None:
    path = tmp_path / "ask.TSV"
    own = ["problem", "predicted", "predicted_2", "probability", ""]
    path.write_text("\t".join(own) + "\nbad song\t7\t8\t9\tx\n\t1\t2\t3\ty\n", encoding="utf-8")
    rows, _ = answered(mood, path, "problem")
    assert list(rows[0]) == [*own[:4], "5", "predicted_3", "probability_2", "problem_2"]
    assert [list(row.values())[:5] for row in rows] == [["bad song", "7", "8", "9", "x"], ["", "1", "2", "3", "y"]]
    assert [(row["predicted_3"], row["problem_2"]) for row in rows] == [("sad", ""), ("", "no input")]


def test_the_answer_of_the_only_row_is_said_whatever_stands_beside_it(mood, tmp_path) -> None:
    path, said = tmp_path / "ask.csv", []
    path.write_text("text,predicted,more\nbad song,glad," + "x" * 100_000 + "\n", encoding="utf-8")
    counts = predict_file(mood, reader_for(path, mood.recipe["data"], "text"), tmp_path / "new.csv", said.append)
    assert (said, counts) == (["sad"], {"sad": 1})
    path.write_text("text,mood\n" + "bad " * 50_000 + ",\n", encoding="utf-8")  # too long to be read
    counts = predict_file(mood, reader_for(path, mood.recipe["data"], "text"), tmp_path / "new.csv", said.append)
    assert (said, counts) == (["sad"], {"not read: too long a field": 1})


def test_a_file_of_which_nothing_is_answered_is_an_error_and_says_why(mood, tmp_path, monkeypatch, capsys) -> None:
    from components.use.opening import Opened

    monkeypatch.setattr(Request, "open", lambda _: Opened(mood, "mood", "1", "run"))
    path, out = tmp_path / "ask.csv", tmp_path / "new.csv"
    path.write_text("id,text\n1,\n2,\n", encoding="utf-8")
    request = Request("mood", file=str(path), column="text")
    with pytest.raises(UserError, match=r"no row could be predicted\n.*new\.csv gives the reason"):
        predict(request, out=str(out))
    assert "2 × not read: no input" in capsys.readouterr().out
    assert out.read_text(encoding="utf-8").count("no input") == 2
    path.write_text("id,text\n1,\n2,good\n", encoding="utf-8")
    assert predict(request, out=str(out)) == [str(out)]


def test_a_table_without_labels_and_lines_of_text_do_as_well(mood, tmp_path) -> None:
    (tmp_path / "ask.csv").write_text("text\nbad\ngood\n", encoding="utf-8")
    rows, _ = answered(mood, tmp_path / "ask.csv")
    assert [row["predicted"] for row in rows] == ["sad", "glad"]
    (tmp_path / "ask.txt").write_text("good, or so\n\nbad, they say\n", encoding="utf-8")
    rows, _ = answered(mood, tmp_path / "ask.txt")
    assert [(row["input"], row["predicted"]) for row in rows] == [
        ("good, or so", "glad"),
        ("", ""),
        ("bad, they say", "sad"),
    ]


def test_a_row_that_stops_the_reading_leaves_no_half_written_answers(mood, tmp_path) -> None:
    path = tmp_path / "ask.csv"
    path.write_bytes(b"text\ngood\n\xff\n")
    (tmp_path / "answers.csv").write_text("older")
    with pytest.raises(UserError, match="isn't UTF-8"):
        answered(mood, path)
    assert (tmp_path / "answers.csv").read_text() == "older"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["answers.csv", "ask.csv"]


def test_answers_are_not_written_over_the_file_that_is_read(mood, tmp_path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("text\ngood film\n", encoding="utf-8")
    with pytest.raises(UserError, match="it is also the input"):
        predict_file(mood, reader_for(path, mood.recipe["data"]), tmp_path / "." / "new.csv")
    assert path.read_text(encoding="utf-8") == "text\ngood film\n"


def test_a_folder_is_read_by_what_it_holds(tmp_path) -> None:
    own = {"reader": "table", "input": "text"}
    (tmp_path / "notes.txt").write_text("a line\n", encoding="utf-8")
    assert [row.input for row in reader_for(tmp_path, own).inputs()] == ["a line"]
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "T.CSV").write_text("text,mood\na film,\n", encoding="utf-8")
    for data in (own, {"reader": "labelled-lines"}):
        reader = reader_for(tmp_path, data, "text")
        assert [row.input for row in reader.inputs()] == ["a film"]
        assert reader.passed_over == {"ending .txt": ["notes.txt"]}
    (tmp_path / "deep" / "T.CSV").rename(tmp_path / "T.xlsx")
    with pytest.raises(UserError, match="a spreadsheet"):
        reader_for(tmp_path, own)


def test_rows_of_which_no_word_is_known_are_told_with_their_lines(mood, tmp_path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("text\ngood film\nxyzzy plugh\n\nxyzzy\n", encoding="utf-8")
    reader = reader_for(path, mood.recipe["data"])
    predict_file(mood, reader, tmp_path / "out.csv")
    (note,) = [note for note in reader.notes if "the model knows no" in note]
    assert note.endswith("2 inputs (" + f"{path}: line 3, line 5)")


def test_what_was_taken_out_of_a_file_is_told(capsys, tmp_path) -> None:
    (tmp_path / "new.txt").write_text("a\0 film\n", encoding="utf-8")
    reader = reader_for(tmp_path / "new.txt", {"reader": "labelled-lines"})
    list(reader.inputs())
    tell(reader, ["a link"])
    assert "left out: 1 × NUL character" in (said := capsys.readouterr().out)
    assert "a link" in said


def test_texts_have_no_column_and_no_table() -> None:
    with pytest.raises(UserError, match="--out"):
        predict(Request("mood", ["good"]), out="answers.csv")
    with pytest.raises(UserError, match="--column"):
        predict(Request("mood", ["good"], column="text"))


@pytest.mark.slow
@pytest.mark.parametrize("labelled", [True, False])
def test_series_are_answered_with_or_without_their_labels(signs, tmp_path, labelled) -> None:
    rises = np.repeat(np.arange(5.0), 2)
    lines = [",".join(map(str, sign * rises)) + (",up" if labelled else "") for sign in (1, -1)]
    (tmp_path / "new.csv").write_text("\n".join(lines), encoding="utf-8")
    rows, _ = answered(signs, tmp_path / "new.csv")
    assert [row["predicted"] for row in rows] == ["up", "down"]
    np.save(tmp_path / "one.npy", -rises.reshape(5, 2))
    rows, _ = answered(signs, tmp_path / "one.npy")
    assert [(row["file"], row["predicted"]) for row in rows] == [("one.npy", "down")]


@pytest.mark.slow
def test_one_file_that_the_model_cannot_read_does_not_stop_the_others(signs, tmp_path) -> None:
    folder = tmp_path / "ask"
    folder.mkdir()
    for name, width in (("a", 2), ("b", 3), ("c", 2)):
        np.save(folder / f"{name}.npy", np.arange(5.0)[:, None].repeat(width, axis=1))
    reader = FrameFilesReader([folder])
    counts = predict_file(signs, reader, tmp_path / "answers.csv")
    with (tmp_path / "answers.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["predicted"] for row in rows] == ["up", "", "up"]
    assert "3 features per step" in rows[1]["problem"]
    assert counts["up"] == 2


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([""], "item 1 of 1: has 0 words; 1 to"),
        (["good", "x " * (MAX_STEPS + 1)], "item 2 of 2: .* can be read"),
        ([3], "words can't read it: it is of type int"),
        ([None, "good"], "item 1 of 2"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_its_place(mood, items, said) -> None:
    with pytest.raises(UserError, match=said):
        mood.predict(items)


@pytest.mark.parametrize("blank", [" ", "\t\n", "\u00a0 "])
def test_a_text_of_blanks_is_none(blank) -> None:
    with pytest.raises(UserError, match="text 1: the text contains only blanks"):
        read(Characters(), blank, "text 1")
    assert read(Characters(), " a", "text 1") == " a"


@pytest.mark.parametrize("item", [np.zeros((3, 5)), [[1, 2], [3]], "text", [[float("nan"), 0]], np.zeros((0, 2))])
def test_frames_of_another_width_are_refused(signs, item) -> None:
    with pytest.raises(UserError, match="item 1 of 1"):
        signs.predict([item])


def test_files_that_nothing_reads_are_refused(mood, signs, tmp_path) -> None:
    with pytest.raises(UserError, match="no such file"):
        reader_for(tmp_path / "none.csv", mood.recipe["data"])
    path = tmp_path / "x.csv"
    path.write_text("a,b,c\n1,2,3\n", encoding="utf-8")
    with pytest.raises(UserError, match="only tables have columns"):
        reader_for(path, signs.recipe["data"], "text")
    with pytest.raises(UserError, match="unknown column 'txt'"):
        answered(mood, path, "txt")
    with pytest.raises(UserError, match="come from the reader adding"):
        reader_for(path, {"reader": "adding", "lag": 10})


def test_texts_are_told_back_with_their_answers_and_unknown_words(mood, signs, capsys) -> None:
    lines = answer_texts(mood, ["bad film", "good zzzz"], print)
    assert [line.split()[0] for line in lines] == ["sad", "glad"]
    assert lines[0].endswith("  bad film")
    assert "1 of 2 words of 'good zzzz' are unknown" in capsys.readouterr().out
    with pytest.raises(UserError, match="reads numbers, not text"):
        answer_texts(signs, ["1 2"], print)


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ({"label": "glad", "probability": 0.51239}, {"predicted": "glad", "probability": "0.5124"}),
        ({"tokens": ["Oslo", "is"], "tags": ["B-LOC", "O"]}, {"tokens": "Oslo is", "predicted": "B-LOC O"}),
        ({"values": [0.25, 1e-9]}, {"predicted": "0.25 1e-09"}),
        ({"text": "a text"}, {"predicted": "a text"}),
        (None, {"predicted": "", "probability": ""}),
    ],
)
def test_answers_of_every_kind_have_their_columns(answer, shown) -> None:
    assert cells(answer) == shown


@pytest.mark.slow
def test_a_model_that_writes_does_not_answer(small_recipe, small_store, tmp_path) -> None:
    recipe = small_recipe()
    session = Session(recipe, small_store(recipe), "cpu", 1)
    save_bundle(tmp_path / "b", "small", session.model, session.encoding, recipe.as_dict(), {"framing": "sequences"})
    with pytest.raises(UserError, match=r"can't predict: its task(.|\n)*reprise generate small"):
        load_bundle(tmp_path / "b").predict(["a"])
