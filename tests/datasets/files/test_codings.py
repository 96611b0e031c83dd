"""Texts in any coding: named, detected or said by a byte order mark; a wrong one is refused with the way out."""

from __future__ import annotations

import codecs
import gzip

import pytest

from components.datasets.files import text as text_files
from components.datasets.tables.reader import TableReader
from components.datasets.text.conll import ConllReader
from components.datasets.text.labelled_lines import LabelledLinesReader
from components.datasets.text.parallel import ParallelReader
from components.datasets.text.plain import LinesReader, TextReader
from components.errors import UserError
from components.options import check_options
from components.proposals.base import Look

FRENCH = "Une œuvre émouvante, jouée à merveille.\nDéçu : l’été n’était pas là.\n" * 3
TEXTS = {
    "latin-1": "Größe, Straße, Übung\nñandú\n",
    "cp1252": FRENCH,
    "cp1251": "Очень хороший фильм, всем советую посмотреть\n",
    "koi8-r": "Очень хороший фильм, всем советую посмотреть\n",
    "gbk": "这部电影非常好看，演员的表演也很出色。\n",
    "shift-jis": "この映画はとても面白かったです。\nまた見たい\n",
    "euc-kr": "이 영화는 정말 재미있었다\n",
    "utf-16-le": "naïve café\n",
}


def write(folder, content, name="text.txt"):
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("coding", TEXTS)
def test_a_named_coding_is_read(tmp_path, monkeypatch, coding, packed) -> None:
    monkeypatch.setattr(text_files, "BLOCK", 5)  # characters that lie across two blocks
    content = TEXTS[coding].encode(coding)
    path = write(tmp_path, gzip.compress(content) if packed else content)
    assert "".join(TextReader([path], coding=coding).items()) == TEXTS[coding]


@pytest.mark.parametrize("coding", [coding for coding in TEXTS if coding != "latin-1"])
def test_auto_detects_the_coding_and_tells_it_with_a_line(tmp_path, coding) -> None:
    plain = "no more than plain ASCII here\n" * 5000  # longer than a block of what is detected from
    path = write(tmp_path, (plain + TEXTS[coding]).encode(coding))
    reader = TextReader([path], coding="auto")
    assert "".join(reader.items()) == plain + TEXTS[coding]
    (note,) = reader.notes
    assert TEXTS[coding].split("\n")[0][:20] in note
    assert "text.txt is read as " in note
    assert "".join(TextReader([write(tmp_path, "naïve".encode())], coding="auto").items()) == "naïve", "UTF-8 first"


@pytest.mark.parametrize("text", ["très bon film, émouvant\nexcellent, à voir\n", "ein schöner, größerer Ärger\n"])
def test_letters_among_latin_ones_are_not_taken_for_cyrillic(tmp_path, text) -> None:
    path = write(tmp_path, text.encode("latin-1"))
    assert "".join(TextReader([path], coding="auto").items()) == text


@pytest.mark.parametrize("coding", ["utf-8", "latin-1", "auto"])
def test_a_byte_order_mark_says_the_coding_whatever_is_named(tmp_path, coding) -> None:
    for mark, marked in ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le")):
        assert list(TextReader([write(tmp_path, mark + "é".encode(marked))], coding=coding).items()) == ["é"]


READERS = {
    "text": (lambda path, **options: TextReader([path], **options), "a.txt", "é b"),
    "lines": (lambda path, **options: LinesReader([path], **options), "a.txt", "é b"),
    "labelled-lines": (lambda path, **options: LabelledLinesReader([path], **options), "a.txt", "é b"),
    "table": (lambda path, **options: TableReader([path], **options), "a.csv", "t,l\né b,1\n"),
    "conll": (lambda path, **options: ConllReader([path], **options), "a.conll", "é O\n"),
    "parallel": (
        lambda path, **options: ParallelReader([path], source="fr", target="en", **options), "a.fr", "é b"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_every_reader_of_text_takes_a_coding_and_its_error_names_it(tmp_path, name) -> None:
    reader, file, content = READERS[name]
    path = write(tmp_path, content.encode("latin-1"), file)
    write(tmp_path, b"e", "a.en")
    with pytest.raises(UserError, match=r"byte \d \(0xe9\) isn't UTF-8.*\n.*data\.coding=latin-1"):
        list(reader(path).items())
    assert "é" in str(list(reader(path, coding="latin-1").items()))


@pytest.mark.parametrize(("wrong", "said"), [("latin-one", "did you mean 'latin-1'"), ("rot13", "for example utf-8")])
def test_a_coding_that_is_none_is_refused_when_the_recipe_is_read(tmp_path, wrong, said) -> None:
    problems: list[str] = []
    check_options("data", {"coding": wrong}, [TableReader], problems)
    assert problems
    assert said in problems[0]
    with pytest.raises(UserError, match=said):
        TextReader([tmp_path / "x"], coding=wrong)


def test_a_coding_that_does_not_fit_is_refused(tmp_path) -> None:
    path = write(tmp_path, TEXTS["cp1251"].encode("cp1251"))
    with pytest.raises(UserError, match="isn't SHIFT-JIS"):
        list(TextReader([path], coding="shift-jis").items())


def test_utf8_under_another_name_is_told_with_a_line(tmp_path) -> None:
    reader = TextReader([write(tmp_path, "plain\nnaïve\n".encode())], coding="latin-1")
    assert "naÃ¯ve" in "".join(reader.items())
    assert reader.notes == ["text.txt is valid UTF-8 but read as latin-1: 'naÃ¯ve' (data.coding=utf-8?)"]
    reader = TextReader([write(tmp_path, "plain\nnaïve\n".encode("latin-1"))], coding="latin-1")
    assert "".join(reader.items()) == "plain\nnaïve\n"
    assert not reader.notes


def test_of_codings_that_read_alike_the_commonest_is_taken(tmp_path) -> None:
    reader = TextReader(
        [write(tmp_path, "".join(f"red thing {n} café\n" for n in range(20)).encode("cp1252"))], coding="auto"
    )
    assert "café" in "".join(reader.items())
    assert "is read as cp1252" in reader.notes[0]


def test_a_file_to_be_answered_has_a_coding_of_its_own(tmp_path) -> None:
    from components.use.files import reader_for

    path = write(tmp_path, "un été\n".encode("latin-1"))
    data = {"reader": "labelled-lines", "coding": "utf-8", "path": "x", "split": [0.8, 0.1, 0.1]}
    with pytest.raises(UserError, match="UTF-8") as caught:
        list(reader_for(path, data).inputs())
    assert "--set data.coding=latin-1" in str(caught.value)
    assert [row.input for row in reader_for(path, data, None, ["data.coding=latin-1"]).inputs()] == ["un été"]
    for wrong in (
        "data.codin=latin-1",
        "data.coding=latn-1",
        "data.max_length=x",
        "model.kind=gru",
        "data.path=y",
        "data",
    ):
        with pytest.raises(UserError):
            reader_for(path, data, None, [wrong])


@pytest.mark.parametrize("coding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["Вторая строка здесь!\nи ещё\n", "plain words\n", "word", "第二行在这里。\n好\n"])
def test_utf_16_without_its_mark_is_refused_and_named(coding: str, text: str, tmp_path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(text.encode(coding) * 5)
    with pytest.raises(UserError, match="UTF-16 without a byte order mark") as caught:
        list(TextReader([path]).items())
    assert f"data.coding={coding}" in caught.value.hint
    assert "".join(TextReader([path], coding=coding).items()) == text * 5


def test_utf_16_in_a_folder_is_passed_over_with_the_way_out(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("plain words\n", encoding="utf-8")
    (tmp_path / "b.txt").write_bytes("mehr Wörter\n".encode("utf-16-le"))
    reader = TextReader([tmp_path / "a.txt", tmp_path / "b.txt"])
    assert text_files.TextFiles(dropped=reader.dropped).fits(tmp_path / "b.txt").endswith("(data.coding=utf-16-le)")


@pytest.mark.parametrize("content", [b"ab\0c\nde\nf\n", b"a\0b c\0d\n" * 3, "naïve\0 café\n".encode(), b"\0\0\0\n\n\n"])
def test_single_nul_characters_make_no_utf_16(content: bytes, tmp_path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(content)
    assert "\0" not in "".join(TextReader([path]).items())


def test_two_codings_in_one_file_are_refused_with_the_lines(tmp_path) -> None:
    lines = ["déjà vu", "plain", "naïve", "café", "été", "où", "là"]
    content = b"\n".join(
        line.encode("latin-1" if line in ("naïve", "été") else "utf-8") for line in [*lines, "où", "là"]
    )
    path = write(tmp_path, content + b"\n")
    for packed in (content, gzip.compress(content)):
        path.write_bytes(packed)
        with pytest.raises(UserError, match="most of it is UTF-8, but not lines 3, 5") as caught:
            list(LinesReader([path], coding="auto").items())
        assert "data.coding=latin-1" in str(caught.value)
        with pytest.raises(UserError, match="not lines 3, 5"):
            Look(path, "text.txt").first()
