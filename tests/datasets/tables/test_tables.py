"""Labelled tables and lines: read, checked, and every row that is left out counted with its reason."""

from __future__ import annotations

import gzip
import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.datasets.ingest import ingest
from components.datasets.sources import build
from components.datasets.store import Store
from components.datasets.tables.reader import TableReader
from components.datasets.text.labelled_lines import LabelledLinesReader
from components.encodings.base import encoding_from_state
from components.encodings.tokens import Tokens
from components.encodings.vocabulary import UNK
from components.errors import UserError

ROWS = [("good film", "1"), ("bad, long film", "0"), ('she said "no"', "0"), ("字 😀", "1")]


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def table(folder, name="t.csv", rows=ROWS, columns=("text", "label")):
    path = folder / name
    frame = pd.DataFrame(rows, columns=list(columns))
    if name.endswith(".parquet"):
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if ".tsv" in name else ",", quoting=3 if ".tsv" in name else 0)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv", "t.tsv.gz", "t.parquet"])
def test_csv_tsv_and_parquet_packed_or_not_read_alike(tmp_path, name):
    reader = TableReader([table(tmp_path, name)])
    assert list(reader.items()) == ROWS
    assert list(reader.items()) == ROWS, "a second pass reads the same"
    assert not reader.dropped
    assert [row.shown for row in reader.inputs()] == [{"text": text, "label": label} for text, label in ROWS]


def test_numbers_and_lists_of_parquet_stay_as_they_are(tmp_path, monkeypatch):
    """A batch of rows with a label missing gives the same labels as one without; other columns may hold lists."""
    monkeypatch.setattr("components.datasets.tables.parquet.ROWS", 2)
    path = tmp_path / "t.parquet"
    texts = ["a", "b", "c", "d"]
    frame = pd.DataFrame({"text": texts, "label": pd.array([1, None, 1, 2**53 + 1], dtype="Int64")})
    frame.assign(words=[["a", "b"], [], None, ["c"]], day=pd.to_datetime(["2020-01-01", None] * 2)).to_parquet(path)
    reader = TableReader([path], input="text", target="label")
    assert list(reader.items()) == [("a", "1"), ("c", "1"), ("d", "9007199254740993")]
    assert reader.dropped == {"no label": 1}
    assert [row.shown["day"] for row in reader.inputs()][:2] == ["2020-01-01 00:00:00", ""]


def test_without_a_header_columns_are_numbers(tmp_path):
    path = write(tmp_path, "t.tsv", 'a "quote that never ends\t1\nb\t0\n')
    assert list(TableReader([path], header=False).items()) == [('a "quote that never ends', "1"), ("b", "0")]
    swapped = TableReader([path], header=False, input="2", target="1")
    assert list(swapped.items())[1] == ("0", "b")


def test_every_row_that_is_left_out_is_counted_with_its_reason(tmp_path):
    text = "text,label\na,1\na,1\na,0\n,1\nb,\nc,1,2\n" + "x" * 30 + ",1\n\nd\ne,0\n" + "y" * 200_000 + ",1\n"
    reader = TableReader([write(tmp_path, "t.csv", text)], max_length=20)
    assert list(reader.items()) == [("a", "1"), ("a", "0"), ("e", "0")]
    assert reader.dropped == {
        "repeated": 1,
        "no input": 2,
        "no label": 2,
        "more fields than columns": 1,
        "too long a field": 1,
        "longer than 20 characters": 1,
    }
    assert reader.group(("A  b", "1")) == reader.group(("a B", "0")), "equal texts stay on one side of a split"
    problems = [row.problem for row in reader.inputs()]
    assert problems.count("") == len(problems) - 5, "to be predicted, a row needs no label, and none is lost"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"input": "txet"}, r"data\.input: .*unknown column 'txet'\. Did you mean 'text'\?"),
        ({"target": "labels"}, r"data\.target: .*Did you mean 'label'\?"),
        ({"input": "text", "target": "text"}, r"data\.target: is the input column too"),
        ({"labels": {"0": "negative", "11": "positive"}}, r"line 2: unknown label '1'\. Did you mean '11'\?"),
        ({"labels": {"negative": "n"}}, r"line 2: unknown label '1'\.\n.*--set data\.labels=null"),
    ],
)
def test_a_wrong_column_or_label_gets_the_nearest_name(tmp_path, options, said):
    with pytest.raises(UserError, match=said):
        list(TableReader([table(tmp_path)], **options).items())


def test_of_many_columns_one_must_say_which(tmp_path):
    path = table(tmp_path, rows=[("a", "b", "c")], columns=("one", "two", "three"))
    with pytest.raises(UserError, match=r"which of the 3 columns\?\ncolumns: one, two, three"):
        list(TableReader([path]).items())
    assert list(TableReader([path], input="three", target="one").items()) == [("c", "a")]


def test_labels_get_the_names_that_they_are_given(tmp_path):
    reader = TableReader([table(tmp_path)], labels={"0": "negative", "1": "positive"})
    assert [label for _, label in reader.items()] == ["positive", "negative", "negative", "positive"]


def test_numbers_are_predicted_from_several_columns(tmp_path):
    rows = [("a", "1.5", "-2"), ("b", "NaN", "1"), ("c", "much", "1"), ("d", "inf", "1")]
    path = table(tmp_path, rows=rows, columns=("text", "x", "y"))
    reader = TableReader([path], input="text", target=("x", "y"), numbers=True)
    assert list(reader.items()) == [("a", [1.5, -2.0])]
    assert reader.dropped == {"missing value": 1, "not a number": 1, "not a finite number": 1}
    with pytest.raises(UserError, match="only be predicted as numbers"):
        TableReader([path], target=("x", "y"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", b"a,b\n\xff,1\n", "isn't UTF-8"),
        ("t.csv", b"", "empty"),
        ("t.csv", b"a,b,a\n1,2,3\n", r"two columns are called 'a'\nrename one of them, .*data\.input=3"),
        ("t.csv", b'a,"b"x\n1,2\n', "isn't a table"),
        ("t.csv.gz", gzip.compress(b"a,b\n1,2\n" * 50, mtime=0)[:-9], "gzip data is damaged"),
        ("t.parquet", b"PAR1 but no more", "isn't a Parquet file"),
        (
            "t.csv.gz",
            gzip.compress(b"a,b\n" + (b"0" * 8191 + b"\n") * 9000, compresslevel=1, mtime=0),
            "expand to more than",
        ),
    ],
)
def test_what_is_no_table_is_refused_with_the_file(tmp_path, name, content, said):
    path = write(tmp_path, name, content)
    with pytest.raises(UserError, match=said) as caught:
        list(TableReader([path]).items())
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["t.csv", "T.CSV", "t.Csv.GZ", "T.TSV", "t.tab", "T.Parquet", "t.PQ"])
def test_the_case_of_an_ending_does_not_count(tmp_path, name):
    small = table(tmp_path, {".t": "s.tsv", ".p": "s.parquet"}.get(name[1:3].lower(), "s.csv"))
    content = small.read_bytes()
    small.unlink()
    path = write(tmp_path, name, gzip.compress(content) if name.endswith("GZ") else content)
    assert list(TableReader([path]).items()) == ROWS
    assert list(TableReader([tmp_path]).items()) == ROWS, "in a folder, too"


def test_only_columns_that_are_used_need_a_name_of_their_own(tmp_path):
    path = write(tmp_path, "t.csv", "text,label,,\na,1,,\nb,0,,,,\nc,1,x,,\n")  # as table programs export them
    reader = TableReader([path])
    assert list(reader.items()) == [("a", "1"), ("b", "0"), ("c", "1")]
    assert [row.shown for row in reader.inputs()][2] == {"text": "c", "label": "1", "3": "x", "4": ""}
    path = write(tmp_path, "t.csv", ",text,label,3,text\n0,a,1,x,y\n")
    assert list(TableReader([path], input="5", target="label").items()) == [("y", "1")]
    assert list(TableReader([path], input="1", target="3").items()) == [("0", "x")]


@pytest.mark.parametrize(("sign", "name"), [(";", "semicolon"), ("\t", "tab"), ("|", "bar")])
def test_another_separator_is_named_in_the_hint_and_the_hint_works(tmp_path, sign, name):
    path = write(tmp_path, "t.csv", f"id{sign}text{sign}label\n1{sign}good, really{sign}1\n")
    for options in ({}, {"input": "text"}):
        with pytest.raises(UserError, match=rf"data\.input: .*t\.csv: .*\n.*data\.separator={name}$"):
            list(TableReader([path], **options).items())
    reader = TableReader([path], input="text", target="label", separator=name)
    assert list(reader.items()) == [("good, really", "1")]


def test_texts_that_begin_with_a_quoted_word_name_the_setting_that_reads_them(tmp_path):
    path = write(tmp_path, "t.csv", "text,label\n" + "".join(f'"Fine" film {n},{n % 2}\n' for n in range(12)))
    data = {"path": str(path), "reader": "table"}
    encoding = {"kind": "pair", "input": {"kind": "tokens"}, "target": {"kind": "labels"}}
    with pytest.raises(UserError, match=r"12 × quotes out of place.*\n.*data\.quotes=false"):
        ingest(data, encoding, root=tmp_path, cache_dir=tmp_path / "cache", seed=0)
    assert next(TableReader([path], quotes=False).items()) == ('"Fine" film 0', "0")
    write(tmp_path, "t.csv", "text,label\n" + "".join(f"fine film {n},{n % 2}\n" for n in range(40)) + '"Oh" no,1\n')
    ref = ingest(data, encoding, root=tmp_path, cache_dir=tmp_path / "cache", seed=0)
    assert any("data.quotes=false" in note for note in Store.open(ref.path).manifest["notes"]), (
        "told, where some remain"
    )


def test_a_comma_in_a_sentence_makes_no_table_of_a_text(tmp_path):
    folder = tmp_path / "mood"
    folder.mkdir()
    write(folder, "glad.txt", "warm, and wise\na film to keep\n")
    path = write(folder, "sad.txt", "long, and dull\n")
    section = {"header": False, "labels": {"0": "sad"}}
    for place in (folder, path):
        said = r"data\.reader=labelled-lines --set data\.header=null --set data\.labels=null"
        with pytest.raises(UserError, match=said) as caught:
            list(build("reader", "table", section, (), [place]).items())
        assert "data.separator=tab" in str(caught.value)
    assert list(TableReader([path], header=False, separator="comma").items()) == [("long", "and dull")]
    assert len(list(LabelledLinesReader([folder]).items())) == 3


def test_labels_in_the_middle_of_names_and_beside_the_names_of_splits(tmp_path):
    write(tmp_path, "mail.spam.txt", "buy\n")
    write(tmp_path, "mail.ham.txt", "hi\n")
    assert sorted(LabelledLinesReader([tmp_path]).items()) == [("buy", "spam"), ("hi", "ham")]
    files = [tmp_path / name for name in ("train_spam.txt", "Train-ham.txt", "spam.train.txt")]
    for path in files:
        path.write_text(f"{path.stem}\n", encoding="utf-8")
    assert [label for _, label in LabelledLinesReader(files[:2]).items()] == ["spam", "ham"]
    alone = [files[0], tmp_path / "mail.ham.txt"]
    assert [label for _, label in LabelledLinesReader(alone).items()] == ["train_spam", "mail"], "not all of a split"
    assert [label for _, label in LabelledLinesReader(files[:2], label_in="file").items()] == ["spam", "ham"]


def test_labels_are_endings_or_folders_where_the_names_are_alike(tmp_path):
    polarity, mail, both = tmp_path / "polarity", tmp_path / "mail", tmp_path / "both"
    for path in (polarity, mail / "spam", mail / "ham", both / "one"):
        path.mkdir(parents=True)
    write(polarity, "rt.pos", "good\n")
    (polarity / "rt.Neg.gz").write_bytes(gzip.compress(b"bad\n"))
    reader = LabelledLinesReader([polarity])
    assert sorted(reader.items()) == [("bad", "Neg"), ("good", "pos")]
    assert reader.decided == ["labels are the files' endings: Neg, pos"]
    for folder in (mail / "spam", mail / "ham"):
        write(folder, "1.txt", f"{folder.name} one\n")
        write(folder, "2.txt", f"{folder.name} two\n")
    assert sorted(LabelledLinesReader([mail]).items())[::3] == [("ham one", "ham"), ("spam two", "spam")]
    assert {label for _, label in LabelledLinesReader([mail], label_in="file").items()} == {"1", "2"}
    write(both, "loose.txt", "a\n")
    write(both / "one", "b.txt", "b\n")
    with pytest.raises(UserError, match=r"set data\.label_in to file, ending or folder"):
        list(LabelledLinesReader([both]).items())
    assert [label for _, label in LabelledLinesReader([both], label_in="file").items()] == ["loose", "b"]


@pytest.mark.slow
@pytest.mark.parametrize("lines", [3, 40_000])
def test_a_quote_that_does_not_end_takes_counted_lines_only(tmp_path, lines):
    path = write(tmp_path, "t.csv", 'a,b\nx,1\n"never ends,1\n' + "".join(f"{n},3\n" for n in range(lines)))
    reader = TableReader([path], unique=False)
    kept = list(reader.items())
    assert kept[0] == ("x", "1")
    assert sum(reader.dropped.values()) + len(kept) == lines + 2
    assert len(kept) > lines / 2 or lines == 3
    assert list(TableReader([path], quotes=False).items())[1] == ('"never ends', "1")


@pytest.mark.slow
@given(
    rows=st.lists(
        st.tuples(st.text(st.sampled_from('ab ,"\n字'), min_size=1, max_size=8), st.sampled_from("xyz")), max_size=20
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_whatever_pandas_writes_is_read_back(tmp_path, rows):
    path = tmp_path / "t.csv"
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(path, index=False)
    wanted = [(text.strip(), label) for text, label in rows if text.strip()]
    assert list(TableReader([path], unique=False).items()) == wanted


def test_pieces_of_a_large_table_join(tmp_path, monkeypatch):
    monkeypatch.setattr("components.datasets.tables.parquet.ROWS", 7)
    rows = [(f"text {number}", str(number % 3)) for number in range(50)]
    for name in ("t.csv", "t.parquet"):
        reader = TableReader([table(tmp_path, name, rows)])
        assert list(reader.items()) == rows
        assert [row.where.partition(": ")[2] for row in itertools.islice(reader.rows(labelled=True), 8, 10)] == (
            ["line 10", "line 11"] if name == "t.csv" else ["row 9", "row 10"]
        )


def test_the_files_name_is_the_label_of_its_lines(tmp_path):
    paths = [write(tmp_path, "Czech.txt", "Novák\n\nNovák\nDvořák\n"), write(tmp_path, "German.txt", "Novák\nBach")]
    reader = LabelledLinesReader(paths)
    assert list(reader.items()) == [("Novák", "Czech"), ("Dvořák", "Czech"), ("Novák", "German"), ("Bach", "German")]
    assert reader.dropped == {"empty line": 1, "repeated": 1}
    before = reader.digest()
    paths[0].rename(tmp_path / "Slovak.txt")
    assert LabelledLinesReader([tmp_path / "Slovak.txt", paths[1]]).digest() != before, "the name is part of the data"


def test_a_name_in_two_languages_stays_on_one_side_of_the_split(tmp_path):
    folder = tmp_path / "names"
    folder.mkdir()
    names = [f"name{number}" for number in range(60)]
    write(folder, "A.txt", "\n".join(names))
    write(folder, "B.txt", "\n".join(names[:40]))
    data = {"path": str(folder), "reader": "labelled-lines", "split": [0.5, 0.2, 0.3]}
    encoding = {"kind": "pair", "input": {"kind": "characters"}, "target": {"kind": "labels"}}
    store = Store.open(ingest(data, encoding, root=tmp_path, cache_dir=tmp_path / "cache", seed=0).path)
    there = {split: {bytes(ids) for ids in store.split(split).fields["input"]} for split in ("train", "val", "test")}
    assert sum(map(len, there.values())) == 60
    for one, other in itertools.combinations(there.values(), 2):
        assert not one & other


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("It doesn't work, it's BAD!", ["It", "does", "n't", "work", ",", "it", "'s", "BAD", "!"]),
        ("does n't   work", ["does", "n't", "work"]),
        ("O’Neill’s 字 '90s", ["O", "’", "Neill", "’s", "字", "'", "90s"]),
        ("x" * 120, ["x" * 50, "x" * 50, "x" * 20]),
        (" \n", []),
    ],
)
def test_text_as_words_and_signs_wherever_they_stand(text, tokens):
    encoding = Tokens()
    encoding.fit([text])
    assert encoding.decode(encoding.encode(text)) == " ".join(tokens)
    assert len(encoding.encode(text)) == len(tokens)
    again = encoding_from_state(encoding.state())
    assert (again.encode(f"new {text}") == encoding.encode(f"new {text}")).all()


def test_hidden_words_are_unknown_in_training_variants_only():
    encoding = Tokens(hidden=0.25, lowercase=True)
    encoding.fit(["a b c d"])
    ids = encoding.encode("A b C d " * 100)
    assert (ids != UNK).all()
    variant = encoding.augment(ids, np.random.default_rng(0))
    assert 0.15 < (variant == UNK).mean() < 0.35
    assert (variant[variant != UNK] == ids[variant != UNK]).all()
    assert Tokens().augment(ids, np.random.default_rng(0)) is ids
    assert encoding.prompt("a zzz")[1][0].startswith("1 of 2 words of the prompt are unknown")


def test_decimal_commas_are_read_where_semicolons_separate_and_empty_lines_before_a_table_are_passed_over(tmp_path):
    path = tmp_path / "prices.csv"
    path.write_text("\n\ntext;price\nred hat;2,5\nblue hat;3\n")
    rows = list(TableReader([path], separator="semicolon", numbers=True).items())
    assert rows == [("red hat", [2.5]), ("blue hat", [3.0])]
