"""Predicting tags: names marked in a text, tables of sentences, and a served tagger."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_predict import answered, train

from components.bundle import Bundle, save_bundle
from components.datasets.text.spans import spans
from components.use.lines import answer_texts, marked


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Bundle:
    """Tags of names: what begins with a capital is a person."""
    folder = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    text = []
    for _ in range(120):
        words = ["".join(rng.choice(list("abcde"), 3)) for _ in range(rng.integers(1, 7))]
        words = [word.title() if rng.random() < 0.4 else word for word in [*words, "."]]
        for at, word in enumerate(words):
            place = "I" if at and words[at - 1][0].isupper() else "B"
            text.append(f"{word} {place}-person" if word[0].isupper() else f"{word} O")
        text.append("")
    (folder / "people.conll").write_text("\n".join(text), encoding="utf-8")
    data = {"path": str(folder / "people.conll"), "reader": "conll"}
    task = {"kind": "tagging", "scheme": "iob"}
    model = {"bidirectional": True, "crf": True, "letters_size": 8}
    return train(folder, "people", data, {"kind": "spelled"}, {"kind": "labels"}, task, **model)


@pytest.mark.slow
def test_names_in_a_text_are_marked_and_the_text_stays_as_it_is(people, capsys) -> None:
    texts = ["Abc Dea and  Bad, (Ebb);bad.", "abc", "Dab"]
    assert answer_texts(people, texts, print) == [
        "[Abc Dea PERSON] and  [Bad PERSON], ([Ebb PERSON]);bad.",
        "abc",
        "[Dab PERSON]",
    ]
    assert capsys.readouterr().out == "", "words that are new have their letters: no warning"


@pytest.mark.slow
def test_texts_of_a_table_and_sentences_in_columns_are_tagged(people, tmp_path) -> None:
    (tmp_path / "ask.csv").write_text('id,text\n1,"Abc, bad"\n2,\n3,Dab\n', encoding="utf-8")
    rows, counts = answered(people, tmp_path / "ask.csv", "text")
    assert [(row["id"], row["tokens"], row["predicted"], row["problem"]) for row in rows] == [
        ("1", "Abc , bad", "B-person O O", ""),
        ("2", "", "", "no input"),
        ("3", "Dab", "B-person", ""),
    ]
    assert counts == {"answered": 2, "not read: no input": 1}
    (tmp_path / "ask.txt").write_text("bad Abc.\n", encoding="utf-8")
    rows, _ = answered(people, tmp_path / "ask.txt")
    assert [(row["tokens"], row["predicted"]) for row in rows] == [("bad Abc .", "O B-person O")]
    (tmp_path / "ask.conll").write_text("bad\nAbc\n.\n\nDab\n", encoding="utf-8")
    rows, _ = answered(people, tmp_path / "ask.conll")
    assert [(row["tokens"], row["predicted"]) for row in rows] == [("bad Abc .", "O B-person O"), ("Dab", "B-person")]


@pytest.mark.slow
def test_a_served_tagger_takes_texts_and_says_what_its_tags_are_of(people, tmp_path) -> None:
    import pandas as pd
    from mlflow.models import Model
    from mlflow.pyfunc import load_model

    from components.tracking.pyfunc import save_served_model

    facts = {"framing": "sequences"}
    save_bundle(tmp_path / "bundle", "people", people.model, people.encoding, people.recipe, facts)
    save_served_model(tmp_path / "bundle", tmp_path / "model", Model())
    rows = load_model(str(tmp_path / "model")).predict(pd.DataFrame({"input": ["bad Abc.", "Dab"]}))
    assert [list(one) for one in rows["tokens"]] == [["bad", "Abc", "."], ["Dab"]]
    assert [list(one) for one in rows["tags"]] == [["O", "B-person", "O"], ["B-person"]]


@given(
    words=st.lists(st.text(alphabet="ab[]#'x.", min_size=1, max_size=5), min_size=1, max_size=6),
    blanks=st.lists(st.sampled_from(["", " ", "\t "]), min_size=7, max_size=7),
    tags=st.lists(st.sampled_from(["O", "B-a", "I-a", "B-b"]), min_size=6, max_size=6),
)
def test_marks_only_add_to_a_text(words, blanks, tags) -> None:
    text = "".join(blank + word for blank, word in zip(blanks, [*words, ""], strict=False))
    line = marked(text, words, tags[: len(words)])
    found = spans(tags[: len(words)])
    assert len(line) == len(text) + sum(len(f"[ {kind}]") for *_, kind in found)
    assert marked(text, words, ["O"] * len(words)) == text
