"""`reprise new`: what files of each kind are taken for, and that the recipe written for them holds."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import wave
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from music_files import events, smf

from components.errors import UserError
from components.proposals.kinds import KINDS, NEVER
from components.recipe import read_recipe
from components.registry import names
from components.runs.preview import preview
from components.runs.propose import Proposed, propose

WORDS = ("good", "bad", "fine", "dull", "slow"), ("music", "actors", "plots", "jokes")
PHRASES = [f"a film with {one} {two}" for one, two in product(*WORDS)]
DAYS = [f"2024-01-{day:02}" for day in range(1, 31)]
BASES = ["ACGT"[at % 4] + "ACGTTGCA"[at % 8 :] + "ACGTTGCA"[: at % 8] + "ACGT"[at // 4 % 4] for at in range(16)]
TUNE = "X:{0}\nT:{0}\nM:4/4\nL:1/4\nK:C\nCDEF|GABc|cBAG|FEDC|CDEF|GABc|cBAG|F{1}DC|]\n"


def rows(header: str, *lines: object) -> str:
    return "\n".join([header, *map(str, lines)] if header else map(str, lines)) + "\n"


def write_wav(path: Path, number: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(range(number + 1, 100)) * 100)


TEXTS = {
    "lines": ({"towns.txt": "Ely\nBath\nLeek\nWells\nYork\nTruro\nRipon\nDeal\nRye\nDiss\n"}, "lines"),
    "sentences with commas": ({"a.csv": rows("", *(f"I saw {one}, it was {two}." for one, two in product(*WORDS)))},
                              "lines"),
    "text": ({"poem.txt": "The fog comes\non little cat feet.\n\nIt sits looking\nover harbor and city\n"}, "text"),
    "sources": ({"src/a.c": "int a;\n" * 40, "src/sub/b.c": "long b;\n" * 40}, "text"),
    "tokens": ({"ptb.txt": " the <unk> of n.y. on N @-@ day\n" * 40}, "tokens"),
    "files": ({"names/a.txt": "Ada\nAnn\nAmy\nAva\n", "names/b.txt": "Bob\nBen\nBo\nBill\n"},
              "labelled-lines"),
    "endings": ({f"r/polarity.{end}": rows("", *(f"{end} {one}" for one in PHRASES)) for end in ("pos", "neg")},
                "labelled-lines"),
    "folders": ({f"d/{label}/{n}.txt": f"{label} text {n}\n" for label in ("pos", "neg") for n in range(4)},
                "labelled-lines"),
    "labels": ({"a.csv": rows("id,text,team", *(f"{n},{one},{'ab'[n % 2]}" for n, one in enumerate(PHRASES)))},
               "labels"),
    "labels, no header": ({"a.csv": rows("", *(f"{one},{n % 2}" for n, one in enumerate(PHRASES)))}, "labels"),
    "splits": ({f"s/{split}.tsv": rows("text\tlabel", *(f"{one}\t{n % 2}" for n, one in enumerate(PHRASES)))
                for split in ("train", "test")}, "labels"),
    "ratings": ({"a.csv": rows("review,stars", *(f"{one},{1 + n % 5}" for n, one in enumerate(PHRASES)))}, "ratings"),
    "numbers": ({"a.txt": rows("words;price", *(f"{one};{n},5" for n, one in enumerate(PHRASES)))}, "numbers"),
    "ratings, some missing": ({"a.csv": rows("review,stars", *(f"{one},{'NA' if n % 9 == 8 else n % 5}"
                                                               for n, one in enumerate(PHRASES)))}, "ratings"),
    "texts that repeat": ({"a.csv": rows("title,price", *(f"{one},{n}.5" for n, one in enumerate(PHRASES * 3)))},
                          "numbers"),
    "a name that can't be printed": ({"a.csv": rows("te\x07xt,team", *(f"{one},{'ab'[n % 2]}"
                                                                      for n, one in enumerate(PHRASES)))}, "labels"),
    "pairs": ({"a.tsv": rows("english\tother", *(f"{one}\t{one[::-1]}" for one in PHRASES))}, "pairs"),
    "parallel": ({"p/t.de": "ja\nnein\nwo\nwer\nwann\n", "p/t.en": "yes\nno\nwhere\nwho\nwhen\n"},
                 "parallel"),
    "spans": ({"a.conll": "Ada B-person\nwrote O\nit O\n\nWe O\nmet O\nBob B-person\n\n" * 4}, "conll"),
    "parts of speech": ({"a.txt": "Ada\tNN\nwrote\tVB\n\nBob\tNN\nslept\tVB\n\n" * 4}, "conll"),
    "fasta": ({"a.fa": "".join(f">s{n} {'ab'[n % 2]}\n{one}\n" for n, one in enumerate(BASES))}, "bases"),
    "bases in lines": ({"a.data": rows("", *(f"{'+-'[n % 2]},s{n},{one}" for n, one in enumerate(BASES)))}, "bases"),
}  # fmt: skip
NUMBERS = {
    "one series": ({"a.csv": rows("month,n", *(f"{year}-{month:02},{month}" for year in (2020, 2021, 2022, 2023, 2024)
                                               for month in range(1, 13)))}, "forecast"),
    "long": ({"a.csv": rows("day,shop,sold,price", *(f"{day},{shop},{n},2.5" for shop in ("n", "s")
                                                     for n, day in enumerate(DAYS)))}, "forecast"),
    "wide": ({"a.csv": rows("day;a;b", *(f"{day};{n},5;{n}" for n, day in enumerate(DAYS)))}, "forecast"),
    "a missing number": ({"a.csv": rows("day,n", *(f"{day},{n % 7 if n % 5 else 'NA'}" for n, day in enumerate(DAYS)))},
                         "forecast"),
    "a series on each line": ({"hourly.csv": rows(",".join(f'"V{n}"' for n in range(1, 51)), *(
        f"H{n},{','.join(str(at % (n + 2)) for at in range(49 - n))}{',' * n}" for n in range(3)))}, "series-lines"),
    "years in the header": ({"a.csv": rows("country,code," + ",".join(map(str, range(1960, 2020))), *(
        f"{name},{name[0]},{','.join(str(n % 9) for n in range(60))}" for name in ("Chad", "Fiji")))}, "series-lines"),
    "test lines that go on": ({f"g/{split}.csv": rows("id," + ",".join(map(str, range(count))), *(
        f"H{n},{','.join(str(n + at % first) for at in range(count))}" for n in range(2)))
        for split, count, first in (("train", 60, 7), ("test", 5, 4))}, "series-lines"),
    "tsf": ({"a.tsf": rows("@attribute series_name string\n@attribute start_timestamp date\n@frequency monthly\n@data",
                           *(f"T{n}:2001-0{n + 1}-01 00-00-00:{','.join(str(at % 12) for at in range(99))}"
                             for n in range(3)))}, "series-lines"),
    "times without a step": ({"a.csv": rows("day,n", *(f"{DAYS[n * n]},{n}" for n in range(6)), *(f"2024-0{n}-17,{n}"
                                                       for n in range(3, 10)))}, "windows"),
    "numbers below each other": ({"a.txt": rows("", *(n % 7 for n in range(60)))}, "windows"),
    "frames": ({"a.csv": rows("x,y,phase", *(f"{n / 7:.3f},{n % 5},{'on' if n // 10 % 2 else 'off'}"
                                             for n in range(60)))}, "tagged-frames"),
    "rows with labels": ({"a.csv": rows("", *(f"{n / 3:.3f},{n / 5:.3f},{n},{'ab'[n % 2]}" for n in range(40)))},
                         "series-labels"),
    "rows with numbers": ({"a.csv": rows("", *(f"{n}.5,{n + 1}.5,{n + 2}.5,{n + 3}.5" for n in range(40)))},
                          "series-numbers"),
    "files of frames": ({f"g/{label}/{n}.csv": f"x,y\n{n},1\n2,{n}\n" for label in ("up", "down") for n in range(5)},
                        "frame-files"),
    "ts": ({"a.ts": rows("@classLabel true up down\n@data", *(f"{n},2,3:{n},0,1:{('up', 'down')[n % 2]}"
                                                            for n in range(10)))}, "ts"),
    "drawings": ({"a.ndjson": rows("", *(f'{{"word": "hat", "drawing": [[[0, {n}, 9], [3, 0, 3]], [[1, 8], [3, 3]]]}}'
                                         for n in range(20)))}, "strokes"),
    "handwriting": ({f"g/{n}.xml": f"<S><Text>so</Text><Stroke><Point x='0' y='0'/><Point x='{n}' y='1'/></Stroke></S>"
                     for n in range(20)}, "strokes"),
    "rolls": ({"a.json": json.dumps({split: [[[60, 64], [62]], [[48], [50]]] for split in ("train", "valid", "test")})},
              "rolls"),
}  # fmt: skip


@pytest.fixture
def new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Proposed]:
    """Write files, and propose a recipe for the first of them, or the folder that they are in."""
    monkeypatch.setenv("REPRISE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def make(files: dict[str, str | bytes], wanted: str | None = None, out: str | None = None) -> Proposed:
        for name, content in files.items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
        return propose(next(iter(files)).split("/")[0], wanted, out)

    return make


@pytest.mark.slow
def test_a_long_text_gets_a_model_that_ten_minutes_are_enough_for(new) -> None:
    found = new({"fog.txt": "The fog comes\non little cat feet.\n\nIt sits looking\nover harbor and city\n" * 2000})
    assert (found.kind, read_recipe(found.file).model["hidden_size"]) == ("text", 256)


@pytest.mark.parametrize("case", [*TEXTS, *NUMBERS])
def test_what_is_taken_holds(new, case: str) -> None:
    files, kind = (TEXTS | NUMBERS)[case]
    found = new(files)
    assert found.kind == kind
    assert shlex.split(found.command) == ["reprise", "run", found.file.name]
    recipe = read_recipe(found.file)
    assert recipe.data["reader"] == KINDS[kind].reader
    assert recipe.model.get("ensemble", 1) == 1, "whatever the recipe that it is like has"
    assert preview(recipe)
    assert kind not in found.others


def test_every_alternative_can_be_asked_for(new) -> None:
    files, _ = TEXTS["labels, no header"]
    others = new(files).others
    assert {"lines", "text"} <= set(others)
    for number, name in enumerate(others):
        assert new(files, name, f"other-{number}.yaml").kind == name


def test_a_number_for_a_rating_and_a_label_for_a_rating_are_alternatives(new) -> None:
    files, _ = TEXTS["ratings"]
    assert {"numbers", "labels"} <= set(new(files).others)
    recipe = read_recipe(new(files, "labels", "l.yaml").file)
    assert (recipe.data["reader"], recipe.task["kind"]) == ("table", "classification")


@pytest.mark.slow
def test_music_recordings_and_videos(new, tmp_path: Path) -> None:
    found = new({"tunes.abc": "\n".join(TUNE.format(n, "CDEFGA"[n % 6]) for n in range(6))})
    assert found.kind == "melody"
    assert "events" in found.others
    for folder in ("said", "named", "untold"):
        (tmp_path / folder).mkdir()
        for n in range(6):
            name = f"{n % 2}_jo_{n}" if folder == "named" else f"clip{n}"
            write_wav(tmp_path / folder / f"{name}.wav", n)
    found = new({"said/meta.csv": rows("file,text", *(f"clip{n},word {n}" for n in range(6)))})
    assert (found.kind, read_recipe(found.file).data["transcripts"]) == ("recordings", "meta.csv")
    (tmp_path / "above" / "clips").parent.mkdir()
    (tmp_path / "said").rename(tmp_path / "above" / "clips")
    assert read_recipe(propose("above").file).data["transcripts"] == "clips/meta.csv"
    assert read_recipe(propose("named").file).data["file_name"] == "{text}_{speaker}_{number}"
    with pytest.raises(UserError, match="recordings without texts"):
        propose("untold")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.png": b"\x89PNG\0"}, "pictures are read as"),
        ({"a.mp3": b"ID3\x04\0"}, "read as WAV"),
        ({"a.xlsx": b"PK\0"}, "save the sheet as CSV"),
        ({"a.jsonl": '{"text": "a", "label": 1}\n' * 9}, "CSV table"),
        ({"a.pkl": b"\x80\x04\0"}, "pickle"),
        ({"a.parquet": b"PAR1 no PAR1"}, "isn't a Parquet file"),
        ({"a.txt": ""}, "it is empty"),
        ({"a.txt": "hello"}, "too few characters"),
        ({"a.dat": bytes(range(256))}, "not text"),
        ({"a.gz": b"\x1f\x8b\x08\0"}, "gzip data is damaged"),
        ({"a.fa": ">s1\nACGT\n>s2\nGGTA\n"}, "without labels"),
        ({"d/.hidden": "text"}, "no files to read"),
        ({"a.mp4": b"\0"}, "one folder per label"),
        ({"a.csv": rows("day,n", *(f"{day},{n % 7}" for n, day in enumerate([*DAYS, DAYS[5]])))}, "goes back in time"),
    ],
)
def test_what_cannot_be_read_is_refused(new, files: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        new(files)
    assert not list(Path().glob("*.yaml"))


def test_a_kind_that_the_data_are_not_of(new) -> None:
    files, _ = TEXTS["lines"]
    with pytest.raises(UserError, match="not forecast"):
        new(files, "forecast")
    with pytest.raises(UserError, match="Did you mean 'lines'"):
        new(files, "line")
    with pytest.raises(UserError, match="no such file"):
        propose("nowhere")


def test_nothing_is_overwritten(new) -> None:
    files, _ = TEXTS["lines"]
    before = new(files).file.read_text()
    with pytest.raises(UserError, match="isn't overwritten"):
        new(files, "text")
    assert Path("towns.yaml").read_text() == before
    with pytest.raises(UserError, match=r"--out mine\.yaml"):
        new(files, out="+.yaml")


def test_a_name_that_a_recipe_of_ours_has(new) -> None:
    assert new({"names.txt": TEXTS["lines"][0]["towns.txt"]}).file.name == "my-names.yaml"


def test_a_label_that_is_missing_is_told(new) -> None:
    lines = (f"{one},{('a', 'b', 'NA')[n % 3]}" for n, one in enumerate(PHRASES))
    assert "missing values such as NA count as a label" in new({"a.csv": rows("text,team", *lines)}).proposal.notes


def test_a_coding_is_detected(new) -> None:
    found = new({"a.txt": "Où êtes-vous, garçon?\nVoilà l'été.\nDéjà vu, café noir.\n".encode("latin-1")})
    assert read_recipe(found.file).data["coding"] == "cp1252"


def test_a_bomb_is_not_unpacked(new, monkeypatch) -> None:
    from components.datasets.files import text as text_files

    monkeypatch.setattr(text_files, "SMALL", 1 << 20)  # of what is unpacked of any file; the bomb is small too
    with pytest.raises(UserError, match="expand to more than"):
        new({"bomb.txt.gz": gzip.compress(b"a\n" * (2 << 20), 1)})


def test_parquet(tmp_path: Path, new) -> None:
    import pandas as pd

    texts = {"text": [f"{one} {n}" for n in range(200) for one in PHRASES], "team": list("ab") * 2000}
    pd.DataFrame(texts).to_parquet(tmp_path / "many.parquet")
    found = propose("many.parquet")
    assert (found.kind, found.proposal.size) == ("labels", 4000)
    frames = {"x": [n / 7 for n in range(60)], "phase": list("aaaaabbbbb") * 6}
    pd.DataFrame(frames).to_parquet(tmp_path / "frames.parquet")
    with pytest.raises(UserError, match="save other numbers as CSV"):
        propose("frames.parquet")


def test_the_steps_of_series_on_lines(new) -> None:
    read = read_recipe(new(NUMBERS["test lines that go on"][0]).file)
    assert (read.data["freq"], read.data["horizon"], read.encoding["calendar"]) == ("D", 5, ())
    assert read_recipe(new(NUMBERS["tsf"][0]).file).data["freq"] is None
    read = read_recipe(new(NUMBERS["a series on each line"][0]).file)
    assert (read.data["freq"], read.data["horizon"]) == ("h", 7)
    features = {"f.csv": rows("id,x1,x2,x3", *(f"a{n},{n}.5,{n % 3},2.5" for n in range(40)))}
    found = new(features)
    assert found.kind != "series-lines"
    assert "series-lines" in found.others


def test_the_value_of_a_long_table_and_no_windows_of_texts(new) -> None:
    assert read_recipe(new(NUMBERS["long"][0]).file).data["value"] == "sold"
    assert "windows" not in new(TEXTS["labels"][0], out="b.yaml").others


def test_quotes_of_cells_with_several_lines_are_none_of_the_texts(new) -> None:
    several = "".join(f'"{one} {n}\nnice, and {n}",{"ab"[n % 2]}\n' for n in range(40) for one in PHRASES[:3])
    inches = "".join(f'{one} {n}" wide,{"ab"[n % 2]}\n' for n in range(40) for one in PHRASES[:3])
    table = {"a.csv": "text,label\n" + several, "b.csv": "text,label\n" + inches}
    quotes = {
        name: read_recipe(new({name: text}, out=f"{name[0]}.yaml").file).data["quotes"] for name, text in table.items()
    }
    assert quotes == {"a.csv": None, "b.csv": False}  # None: as usual, quotes enclose cells


def test_numbers_with_a_unit_are_told(new) -> None:
    rows = "".join(f"{one},{n * 7} km\n" for n, one in enumerate(PHRASES[:60], 1))
    assert "leave out the unit, and a number is predicted" in new({"a.csv": "text,far\n" + rows}).proposal.notes[0]
    other = "".join(f"{one},it is {n * 7} and more\n" for n, one in enumerate(PHRASES[:60]))
    assert not new({"b.csv": "text,far\n" + other}, "pairs", "b.yaml").proposal.notes


def test_a_folder_that_cannot_be_read(new, monkeypatch) -> None:
    Path("secret").mkdir()
    monkeypatch.setattr(Path, "iterdir", lambda self: os.scandir("nowhere"))
    with pytest.raises(UserError, match="secret: can't be read"):
        propose("secret")


def test_no_reader_is_forgotten() -> None:
    proposed = {kind.reader for kind in KINDS.values()}
    assert not proposed & set(NEVER)
    assert proposed | set(NEVER) == set(names("reader")), "add a kind for it, or say in NEVER why not"


@pytest.mark.slow
def test_midi_files_with_drums_alone_are_taken_for_drums(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPRISE_HOME", str(tmp_path / "home"))
    for number in range(4):
        hits = [(240 * at, bytes([0x99, 36 + 2 * (at % 2), 60 + at + number])) for at in range(16)]
        (tmp_path / "beats").mkdir(exist_ok=True)
        (tmp_path / "beats" / f"{number}.mid").write_bytes(smf(events(*hits)))
    made = propose("beats")
    assert (made.kind, read_recipe(made.file).data["reader"]) == ("drums", "drums")


@pytest.mark.slow
def test_what_stands_around_a_table_is_none_of_it(new) -> None:
    lines = [f"{one},{'ab'[n % 2]}" for n, one in enumerate(PHRASES)]
    with pytest.raises(UserError, match="begins with 2 lines of comment, above a table"):
        new({"a.csv": rows("# of May\n# by hand\ntext,team", *lines)})
    marked = [f"| {line.replace(',', ' | ')} |" for line in lines]
    found = new({"b.md": rows("| text | team |\n|:---|---:|", *marked)})
    assert found.proposal.data == {"reader": "table", "input": "text", "target": "team", "separator": "bar"}
    assert found.proposal.notes == ()
    page = new({"c.txt": "<html>\n" + "We met. It rained. Then we went home.\n" * 9}, "text")
    assert "a web page (HTML)" in page.proposal.notes[-1]


@pytest.mark.slow
def test_series_without_a_header_and_parts_of_a_text(new) -> None:
    series = "".join(f"s{n},{','.join(str(7 + n * at * at) for at in range(9))}\n" for n in range(5))
    with pytest.raises(UserError, match=r"has a name and 9 numbers on each line, but no header\n.* name,1,2,… to 9"):
        new({"a.csv": series})
    assert new({"a.csv": series}, "text").kind == "text"
    assert new({f"d/part{n}.txt": "\n".join(PHRASES) for n in range(6)}).kind != "labelled-lines"


@pytest.mark.slow
def test_a_clock_that_begins_anew_and_prices_with_a_unit(new) -> None:
    frames = [f"{n % 20},{n * n % 7},{n * n % 11},{'ab'[n // 10 % 2]}" for n in range(200)]
    assert new({"a.csv": rows("t,x,y,what", *frames)}).proposal.data["columns"] == ["x", "y"]
    prices = [f'"{n * 1234:,} €",{n * n % 5 + 1}' for n in range(60)]
    assert "price holds numbers, read as texts" in new({"b.csv": rows("price,rooms", *prices)}).proposal.notes[0]
