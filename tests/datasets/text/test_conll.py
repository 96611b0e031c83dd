"""Tagged text in columns, as it comes: tabs or blanks, three schemes of tags, comments, damaged lines."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.datasets.text.conll import ConllReader
from components.datasets.text.spans import as_iob2, follows, spans
from components.errors import UserError

PERSON = (["Ann", "Lee", "sang"], ["B-PER", "I-PER", "O"])


def read(path: Path, text: str | bytes, **options) -> tuple[list, dict[str, int]]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    reader = ConllReader([path], **options)
    items = list(reader.items())
    assert items == list(reader.items()), "it may be read again"
    return items, dict(reader.dropped)


@pytest.mark.parametrize(
    "text",
    [
        "Ann\tB-PER\nLee\tI-PER\nsang\tO\n\n",
        "Ann\tB-PER\nLee\tI-PER\nsang\tO",  # no line end, no blank line
        "\n \nAnn\tB-PER\nLee\tI-PER\nsang\tO\n\t\n\n\n",  # a tab or a blank ends a sentence too
        "Ann\tB-PER\r\nLee\tI-PER\r\nsang\tO\r\n\t\r\n",
        "Ann B-PER\nLee  I-PER \nsang\tO\n",
        "-DOCSTART- O\n\nAnn I-PER\nLee I-PER\nsang O\n",  # IOB1
        "-DOCSTART-\tO\nAnn\tB-PER\nLee\tE-PER\nsang\tO\n",  # BIOES
        "Ann\tB-PER\nLee\tL-PER\nsang\tO\n",  # BILOU
        "# sent_id = 1\n# text = Ann Lee sang\nAnn\tB-PER\nLee\tI-PER\nsang\tO\n\n# the end\n",
        "\ufeffAnn\tB-PER\nLee\tI-PER\nsang\tO\n",
        gzip.compress(b"Ann\tB-PER\nLee\tI-PER\nsang\tO\n", mtime=0),
    ],
)
def test_however_it_is_written_it_says_the_same(tmp_path, text) -> None:
    assert read(tmp_path / "a.conll", text) == ([PERSON], {})


def test_columns_are_chosen_by_number(tmp_path) -> None:
    text = "# a b c d\n1\tAnn\tNNP\tB-PER\n2\tsang\tVBD\tO\n"
    assert read(tmp_path / "a", text, token_column=2) == ([(["Ann", "sang"], ["B-PER", "O"])], {})
    found = read(tmp_path / "a", text, token_column=2, tag_column=3, scheme="none")
    assert found == ([(["Ann", "sang"], ["NNP", "VBD"])], {})
    assert read(tmp_path / "a", text, token_column=2, tag_column=9) == ([], {"a line lacks a column": 1})


def test_what_cannot_be_read_is_dropped_with_its_reason(tmp_path) -> None:
    text = "a\tO\nb\n\nc\tO\n\nd\tNN\n\n\tO\n\nx\tO\nx\tO\nx\tO\n\n" + "y" * 1001 + "\tO\n"
    items, dropped = read(tmp_path / "a", text, max_length=2)
    assert items == [(["c"], ["O"])]
    assert dropped == {
        "a line lacks a column": 2,
        "a tag that is neither IOB nor BIOES (for other tags set data.scheme: none)": 1,
        "more than 2 tokens": 1,
        "a token of more than 1,000 characters": 1,
    }


def test_conllu_lines_that_are_no_words_are_passed_over(tmp_path) -> None:
    text = "# text = au lac\n1-2\tau\t_\n1\tà\tADP\n2\tle\tDET\n3\tlac\tNOUN\n3.1\test\tVERB\n\n1\t1-2\tNUM\n"
    words = [(["à", "le", "lac"], ["ADP", "DET", "NOUN"]), (["1-2"], ["NUM"])]
    assert read(tmp_path / "a", text, token_column=2, scheme="none") == (words, {})
    with pytest.raises(UserError, match=r"numbers the words.*\n.*data\.token_column.*2 in CoNLL-U"):
        read(tmp_path / "a", text, scheme="none")
    assert read(tmp_path / "a", "1-2 O\n2.1 B-x\n") == ([(["1-2", "2.1"], ["O", "B-x"])], {})


def test_a_document_ends_the_sentence_before_it(tmp_path) -> None:
    text = "-DOCSTART- O\nAnn B-x\nsang O\n-DOCSTART- O\nBob B-x\n"
    assert read(tmp_path / "a", text) == ([(["Ann", "sang"], ["B-x", "O"]), (["Bob"], ["B-x"])], {})


@pytest.mark.parametrize("labelled", [True, False])
def test_a_line_with_more_words_than_columns_is_told(tmp_path, labelled) -> None:
    text = "Ann NOUN\n\nNew York NOUN\n\nsang VERB\n" if labelled else "Ann\n\nNew York\n\nsang\n"
    (tmp_path / "a").write_text(text)
    rows = list(ConllReader([tmp_path / "a"], scheme="none").rows(labelled=labelled))
    assert [row.input for row in rows if not row.problem] == [["Ann"], ["sang"]]
    assert rows[1].problem == "a line has more columns than the file's first line"


def test_a_hash_can_be_a_token(tmp_path) -> None:
    items, dropped = read(tmp_path / "a", "#\tO\n#now\tB-x\n# y\tO\n\n#1\tO\n#\n")
    assert items == [(["#", "#now", "# y"], ["O", "B-x", "O"])]
    assert dropped == {"a line lacks a column": 1}
    items, _ = read(tmp_path / "a", "the O\n\n# O\n")
    assert items == [(["the"], ["O"]), (["#"], ["O"])]


def test_types_can_be_renamed_and_an_unknown_one_has_its_nearest(tmp_path) -> None:
    text = "Ann\tB-PER\nsang\tO\n"
    items, _ = read(tmp_path / "a", text, labels={"PER": "person", "LOC": "place"})
    assert items == [(["Ann", "sang"], ["B-person", "O"])]
    with pytest.raises(UserError, match=r"unknown label 'PER'\. Did you mean 'PERS'") as error:
        read(tmp_path / "a", text, labels={"PERS": "person"})
    assert "line 1" in str(error.value)
    with pytest.raises(UserError, match="unknown label 'NN'"):
        read(tmp_path / "a", "a\tNN\n", labels={"NNS": "noun"}, scheme="none")


@pytest.mark.parametrize("text", ["Ann\nsang\n\n.\n", "Ann\tB-PER\nsang\tO\n\n.\tO\n"])
def test_files_to_be_answered_need_no_tags(tmp_path, text) -> None:
    (tmp_path / "a").write_text(text, encoding="utf-8")
    rows = list(ConllReader([tmp_path / "a"]).inputs())
    assert [(row.input, row.target, row.problem) for row in rows] == [(["Ann", "sang"], None, ""), (["."], None, "")]
    assert [row.shown["tokens"] for row in rows] == ["Ann sang", "."]


def test_repeated_sentences_are_kept_unless_unique(tmp_path) -> None:
    text = "a O\n\na O\n"
    assert len(read(tmp_path / "a", text)[0]) == 2
    assert read(tmp_path / "a", text, unique=True) == ([(["a"], ["O"])], {"repeated": 1})


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet=st.sampled_from("ab#\t \n\rO-BIES\x00\u2028\xa0é")))
def test_any_text_is_read_or_refused_and_tags_match_tokens(tmp_path_factory, text) -> None:
    path = tmp_path_factory.mktemp("any") / "a"
    try:
        items, _ = read(path, text)
    except UserError:
        return
    for tokens, tags in items:
        assert 1 <= len(tokens) == len(tags)
        assert all(tokens)
        assert as_iob2(tags) == tags


TAGS = st.lists(st.sampled_from(["O", "B-x", "I-x", "B-y", "I-y", "E-x", "S-y", "U-x", "L-y", "B", "I"]), max_size=12)


@given(TAGS)
def test_iob2_keeps_the_spans_and_is_well_formed(tags) -> None:
    written = as_iob2(tags)
    assert spans(written) == spans(tags)
    assert as_iob2(written) == written
    assert all(follows(tag, previous) for previous, tag in zip([None, *written], written, strict=False))
    for start, end, kind in spans(tags):
        assert 0 <= start < end <= len(tags)
        assert not kind or kind in "xy"


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("B-x I-x O I-y", [(0, 2, "x"), (3, 4, "y")]),  # an I that begins: conlleval takes it for a span
        ("B-x B-x I-x", [(0, 1, "x"), (1, 3, "x")]),
        ("B-x I-y I-y", [(0, 1, "x"), (1, 3, "y")]),
        ("I-x I-x B-x", [(0, 2, "x"), (2, 3, "x")]),  # IOB1: B only where two meet
        ("S-x S-x B-x E-x I-x", [(0, 1, "x"), (1, 2, "x"), (2, 4, "x"), (4, 5, "x")]),
        ("E-x O B-creative-work", [(0, 1, "x"), (2, 3, "creative-work")]),
        ("O", []),
    ],
)
def test_spans_are_counted_as_conlleval_counts_them(tags, found) -> None:
    assert spans(tags.split()) == found


def test_what_is_no_tag_of_spans_is_refused() -> None:
    for tag in ("NN", "", "B-", "X-y", "o"):
        with pytest.raises(ValueError, match="isn't a tag of spans"):
            as_iob2(["O", tag])
    assert spans(["B-x", "", "I-x"]) == [(0, 1, "x"), (2, 3, "x")]
