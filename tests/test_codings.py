"""Texts in any coding: named, detected or said by a byte order mark; a wrong one is refused with the way out."""

from __future__ import annotations

import codecs
import gzip

import pytest

from components.datasets import text as text_module
from components.datasets.conll import ConllReader
from components.datasets.labelled_lines import LabelledLinesReader
from components.datasets.parallel import ParallelReader
from components.datasets.tables import TableReader
from components.datasets.text import LinesReader, TextReader
from components.errors import UserError
from components.recipe import check_options

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
    monkeypatch.setattr(text_module, "BLOCK", 5)  # characters that lie across two blocks
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
