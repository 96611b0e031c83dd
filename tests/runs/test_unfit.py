"""Data for which `reprise new` proposes nothing, since the likeliest recipe would learn something else."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from components.errors import UserError
from components.proposals.base import Look, Proposal
from components.proposals.kinds import candidates

DAYS = [date(2023, 1, 1) + timedelta(day) for day in range(40)]
WORDS = ["red dog", "old cat", "big car", "new tree"]


def proposed(root: Path, files: dict[str, str | bytes], at: str = "") -> tuple[str, Proposal]:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    path = root / at if at else root / next(iter(files)) if len(files) == 1 else root
    kind, found = candidates(Look(path, "DATA"))
    return kind, found[kind]


def refused(root: Path, files: dict[str, str | bytes]) -> str:
    with pytest.raises(UserError) as caught:
        proposed(root, files)
    return str(caught.value)


def table(header: str, *rows: str) -> str:
    return "\n".join([header, *rows]) + "\n"


@pytest.mark.parametrize(
    "cell", ["−1.5", "(1.5)", "1.5-", "<1.5", "n.d.", "$1.5", "0x1F", "1 234.5", "１．５", "1e400"]
)
def test_a_table_whose_numbers_have_other_signs_is_no_list_of_lines(tmp_path: Path, cell: str) -> None:
    rows = [f"{day},{cell if at % 3 == 0 else at * 1.25}" for at, day in enumerate(DAYS)]
    said = refused(tmp_path, {"a.csv": table("date,level", *rows)})
    assert "is a table of 2 columns (date: times; level: " in said
    assert f"not numbers: level: {cell!r}" in said


def test_several_lines_of_names_are_refused(tmp_path: Path) -> None:
    rows = [f"{day},{at}.5,{at}.25" for at, day in enumerate(DAYS)]
    for above in ("city,Rome,Rome\nkind,rain,wind", "time,level,power\n,°C,kW"):
        assert "has numbers below several lines of names" in refused(tmp_path, {"a.csv": table(above, *rows)})


@pytest.mark.parametrize(
    ("column", "form"),
    [("quarter", "{0.year}Q{1}"), ("month", "{0:%b-%y}"), ("date", "{0:%d.%m.%y}"), ("time", "{0} 12:00 CET")],
)
def test_times_that_cannot_be_read_are_no_texts(tmp_path: Path, column: str, form: str) -> None:
    rows = [f"{form.format(day, at % 4 + 1)},{at}.5" for at, day in enumerate(DAYS)]
    said = refused(tmp_path, {"a.csv": table(f"{column},sales", *rows)})
    assert f"column {column} seems to hold times, but {rows[0].split(',')[0]!r} can't be read" in said


def test_days_and_months_in_both_orders_are_refused_at_the_first_odd_one(tmp_path: Path) -> None:
    rows = [f"{day:%d/%m/%Y},{at}.5" if at < 30 else f"{day:%m/%d/%Y},{at}.5" for at, day in enumerate(DAYS)]
    rows += [f"04/{day}/2023,1.5" for day in range(14, 24)]
    assert "column date seems to hold times" in refused(tmp_path, {"a.csv": table("date,sales", *rows)})


def test_times_in_several_columns_are_refused(tmp_path: Path) -> None:
    rows = [f"{day.year},{day.month},{day.day},{at}.5" for at, day in enumerate(DAYS)]
    said = refused(tmp_path, {"a.csv": table("year,month,day,x", *rows)})
    assert "gives each time in several columns: day, month, year" in said
    rows = [f"{DAYS[at // 20]},{at % 20},{at}.5" for at in range(40)]
    assert "several columns: date, hour" in refused(tmp_path, {"b.csv": table("date,hour,x", *rows)})


def test_series_on_lines_with_a_name_twice_or_times_out_of_order_are_refused(tmp_path: Path) -> None:
    lines = [f"s{line % 9}," + ",".join(f"{line}.{at:02}" for at in range(20)) for line in range(12)]
    names = ",".join(map(str, DAYS[:20]))
    assert "has 20 columns of numbers, and none is named" in refused(
        tmp_path, {"a.csv": table(f"name,{names}", *lines)}
    )


def test_other_formats_of_texts_are_refused(tmp_path: Path) -> None:
    files = {
        "a.txt": '{"text": "good film", "label": "pos"}\n{"text": "bad film", "label": "neg"}\n' * 20,
        "b.text": '<?xml version="1.0"?>\n<tmx><tu>Hello</tu></tmx>\n' * 20,
        "c.txt": "".join(f"1 {at}:0.5 {at + 1}:0.25\n" for at in range(30)),
        "d.txt": "".join(f"{at}.5   {at}.25   3.5\n" for at in range(30)),
        "e.srt": "1\n00:00:01,000 --> 00:00:02,000\nHello.\n\n" * 20,
    }
    what = ("is JSON", "is XML", "is lines of numbers", "is lines of numbers", ".srt files can't be read")
    for (name, text), said in zip(files.items(), what, strict=True):
        assert said in refused(tmp_path / name, {name: text})


def test_recordings_beside_their_texts_are_no_text(tmp_path: Path) -> None:
    said = refused(tmp_path, {f"r{at}.{end}": WORDS[at] * 9 for at in range(4) for end in ("wav", "txt")})
    assert "recordings without texts" in said or "WAV" in said


def test_files_beside_folders_of_labels_and_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    texts = {f"{label}/{at}.txt": f"{WORDS[at % 4]} {label}\n" * 3 for label in ("pos", "neg") for at in range(5)}
    said = refused(tmp_path / "a", {**texts, "bag.feat": "0:9 1:2 a\n"})
    assert "has files beside the folders neg, pos: bag.feat" in said
    nested = {f"{label}/{who}/1.txt": "the dog came\n" * 9 for label in ("pos", "neg") for who in ("anna", "bob")}
    assert "contains neg/anna and pos/anna" in refused(tmp_path / "b", nested)


def test_tables_of_a_competition_are_refused(tmp_path: Path) -> None:
    rows = [f"{at},{WORDS[at % 4]} {at}" for at in range(20)]
    files = {
        "train.csv": table("id,text,label", *[f"{row},{'ab'[at % 2]}" for at, row in enumerate(rows)]),
        "test.csv": table("id,text", *rows),
        "sample_submission.csv": table("id,label", *[f"{at},a" for at in range(20)]),
    }
    said = refused(tmp_path, files)
    assert "contains tables with different columns: sample_submission.csv (id, label)" in said
    assert "reprise new DATA/train.csv" in said


def test_the_label_before_a_series_is_a_label(tmp_path: Path) -> None:
    lines = ["\t".join([str(line % 2 + 1), *[f"{line}.{at}" for at in range(1, 9)]]) for line in range(20)]
    kind, found = proposed(tmp_path, {"A_TRAIN.tsv": "\n".join(lines)})
    assert (kind, found.data["label"], found.data["steps"]) == ("series-labels", "first", 8)


def test_tabs_separate_also_where_every_line_has_a_comma(tmp_path: Path) -> None:
    lines = [f"{('ham', 'spam')[at % 2]}\t{WORDS[at % 4]} {at}, call now" for at in range(30)]
    kind, found = proposed(tmp_path, {"messages": "\n".join(lines)})
    assert (kind, found.data["separator"], found.data["target"]) == ("labels", "tab", "1")


def test_sentences_with_ids_or_licences_are_pairs(tmp_path: Path) -> None:
    licence = "CC-BY 2.0 (France) Attribution: tatoeba.org #1 (CM) & #2 (Sacredceltic)"
    pairs = [(f"The {word} number {at}.", f"Der {word} Nummer {at} da.") for at, word in enumerate(WORDS * 8)]
    for name, lines in {
        "deu.txt": [f"{one}\t{other}\t{licence}" for one, other in pairs],
        "ids.tsv": [f"{at * at}\t{one}\t{at * 7 % 101 + 1000}\t{other}" for at, (one, other) in enumerate(pairs)],
    }.items():
        kind, found = proposed(tmp_path / name, {name: "\n".join(lines)})
        texts = ("1", "2") if name == "deu.txt" else ("2", "4")
        assert (kind, found.data["input"], found.data["target"]) == ("pairs", *texts)


def test_columns_that_are_not_read_and_units_are_told(tmp_path: Path) -> None:
    rows = [f"the {WORDS[at % 4]} {at},a {WORDS[at % 3]} {at},{at % 5}0%" for at in range(30)]
    kind, found = proposed(tmp_path, {"a.csv": table("premise,hypothesis,score", *rows)})
    assert kind == "labels"
    assert found.notes == (
        "not read: hypothesis (data.input, data.target)",
        "score holds numbers with a unit: leave out the unit to predict numbers, not labels",
    )


def test_sequences_of_bases_with_a_file_for_each_label(tmp_path: Path) -> None:
    def fasta(*ends: str) -> str:
        return "".join(f">s{at} a{end}\n{'ACGT'[at % 4 :]}{'GATTACA'[at % 7 :]}\n" for at, end in enumerate(ends * 9))

    for name, ends in (("words", (" whole gene",)), ("none", ("",))):
        kind, found = proposed(tmp_path / name, {"exon.fa": fasta(*ends), "intron.fa": fasta(*ends)})
        assert (kind, found.data["label_in"]) == ("bases", "file")
    kind, found = proposed(tmp_path / "headers", {"x.fa": fasta(" exon", " intron"), "y.fa": fasta(" exon", " intron")})
    assert (kind, found.data.get("label_in")) == ("bases", None)
    said = refused(tmp_path / "middle", {"s.exon.fa": fasta(""), "s.intron.fa": fasta("")})
    assert "name each file after its label" in said
