"""Tables as spreadsheets write them: what `reprise new` would read wrongly is put right or refused."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from components.datasets.files.cells import Points, separator_of
from components.datasets.files.text import TextFiles
from components.datasets.series.labelled import SeriesRowsReader
from components.datasets.series.table import SeriesTableReader
from components.datasets.series.tagged_frames import TaggedFramesReader
from components.datasets.series.windows import SeriesWindowsReader
from components.datasets.tables.columns import read_columns
from components.errors import UserError
from components.proposals.base import Look, Proposal
from components.proposals.kinds import candidates

MONTHS = ["Jan", "Feb", "Mär", "Apr", "Mai", "Jun", "Jul", "Aug", "Sep", "Okt", "Nov", "Dez"]
HOURS = [datetime(2022, 5, 1) + timedelta(hours=at) for at in range(100)]
WORDS = ("fish", "soup", "wine", "bread", "salt", "plum", "nut")
TEXTS = [f"{WORDS[at % 7]} and {WORDS[at % 5]} for {WORDS[at % 3]}" for at in range(40)]


def proposed(path: Path, lines: list[str]) -> tuple[str, Proposal]:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    kind, found = candidates(Look(path, "DATA"))
    return kind, found[kind]


def refused(path: Path, lines: list[str]) -> str:
    with pytest.raises(UserError) as caught:
        proposed(path, lines)
    return str(caught.value)


@pytest.mark.parametrize(
    ("header", "row", "read"),
    [
        ("dish,,taste,", "{},,{},", ("dish", "taste")),
        ("dish,taste,,,", "{},{},,,", ("dish", "taste")),
        ("taste,dish,remark,remark", "{1},{0},,", ("dish", "taste")),
    ],
)
def test_a_header_with_cells_without_a_name_or_of_the_same_is_no_example(
    tmp_path: Path, header: str, row: str, read: tuple[str, str]
) -> None:
    lines = [row.format(text, ("sweet", "sour")[at % 2]) for at, text in enumerate(TEXTS)]
    for sign, name in ((",", "a.csv"), ("\t", "a.tsv")):
        _, found = proposed(tmp_path / name, [line.replace(",", sign) for line in (header, *lines)])
        assert (found.data["input"], found.data["target"], found.data.get("header")) == (*read, None)


def test_a_first_pair_of_the_same_word_is_no_header(tmp_path: Path) -> None:
    rows = [f"{WORDS[at % 7]}{at}\t{WORDS[at % 5]}{at}" for at in range(1, 40)]
    assert proposed(tmp_path / "pairs.tsv", ["taxi\ttaxi", *rows])[1].data["header"] is False


def test_a_title_above_a_table_is_refused(tmp_path: Path) -> None:
    rows = [f"{text},{at % 2},x" for at, text in enumerate(TEXTS)]
    said = refused(tmp_path / "a.csv", ["Menu of May,,", "dish,taste,kind", *rows])
    assert "has only 'Menu of May' in its first line" in said
    said = refused(
        tmp_path / "b.csv", ["Menu of May", "", "dish;taste", *[f"{row[:9]};{at}" for at, row in enumerate(rows)]]
    )
    assert "most lines have 2 cells, but 'Menu of May' has 1" in said
    said = refused(
        tmp_path / "c.csv", ["dish,taste", *[f"{text}{', hot' * (at % 4 == 0)},x" for at, text in enumerate(TEXTS)]]
    )
    assert "most lines have 2 cells" in said
    assert "put quotes around cells that contain ','" in said


def test_a_number_for_each_customer_is_not_what_to_predict(tmp_path: Path) -> None:
    rows = [f"{4000 + 3 * at},{text},{('sweet', 'sour')[at % 2]}" for at, text in enumerate(TEXTS)]
    kind, found = proposed(tmp_path / "a.csv", ["client_no,dish,taste", *rows])
    assert (kind, found.data["target"]) == ("labels", "taste")


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (["day", *[f"h{at}" for at in range(24)]], "a column for each hour: h0, h1"),
        (["Tag", *[f"{at} Uhr" for at in range(24)]], "a column for each hour: 0 Uhr, 1 Uhr"),
        (["year", *MONTHS], "a column for each month: Jan, Feb"),
        (["date", *map(str, range(1, 25))], "a column for each hour: 1, 2"),
        (["date", *map(str, range(24))], "a column for each hour: 0, 1"),
        (["year", *map(str, range(1, 13))], "a column for each month: 1, 2"),
        (["date", *[f"{at // 2:02}:{30 * (at % 2):02}" for at in range(48)]], "each time of day: 00:00, 00:30"),
    ],
)
def test_times_across_a_table_are_no_series_each(tmp_path: Path, header: list[str], told: str) -> None:
    times = [f"{1980 + at}" if header[0] == "year" else f"2021-06-{at + 1:02}" for at in range(30)]
    rows = [",".join([time, *(f"{at}.{of}" for of in range(len(header) - 1))]) for at, time in enumerate(times)]
    said = refused(tmp_path / "a.csv", [",".join(header), *rows])
    assert told in said
    assert "to read each column as a series of its own: --as forecast" in said


def test_days_with_numbers_but_no_header_are_no_names_of_series(tmp_path: Path) -> None:
    rows = [",".join([f"2021-06-{at + 1:02}", *(f"{at}.{of}" for of in range(24))]) for at in range(30)]
    said = refused(tmp_path / "a.csv", rows)
    assert "has a time and 24 numbers on each line, but no header" in said
    assert "a line for each hour with its whole time" in said
    rows = [",".join([f"2021-06-{at + 1:02}", *(f"{at}.{of}" for of in range(9))]) for at in range(30)]
    kind, found = proposed(tmp_path / "b.csv", [",".join(["date", *[f"s{at}" for at in range(1, 10)]]), *rows])
    assert (kind, found.data["reader"]) == ("forecast", "series-table")


def test_days_that_end_at_24_and_an_hour_that_is_there_twice_are_forecast(tmp_path: Path) -> None:
    ends = [f"2024-01-{1 + at // 24:02} {1 + at % 24:02}:00,{at}.5" for at in range(96)]
    clock = [f"{time:%Y-%m-%d %H:%M},{at}.5" for at, time in enumerate([*HOURS[:50], *HOURS[49:99]])]
    for name, rows in (("a", ends), ("b", clock)):
        kind, found = proposed(tmp_path / f"{name}.csv", ["time,kW", *rows])
        assert (kind, found.data["horizon"]) == ("forecast", 16)
    (series,) = SeriesTableReader([tmp_path / "a.csv"], time="time").whole()
    assert [str(time)[:16] for time in series.times[22:25]] == [
        "2024-01-01T23:00", "2024-01-02T00:00", "2024-01-02T01:00",
    ]  # fmt: skip


def test_the_words_of_conll_u_are_its_second_column(tmp_path: Path) -> None:
    lines = ["# text = Ada writes", "1-2\tAda's" + "\t_" * 8]
    for at, (word, tag) in enumerate([("Ada", "PROPN"), ("writes", "VERB"), (".", "PUNCT")], 1):
        lines.append(f"{at}\t{word}\t{word}\t{tag}" + "\t_" * 6)
    kind, found = proposed(tmp_path / "a.conllu", [*lines, ""] * 9)
    assert kind == "conll"
    assert (found.data["token_column"], found.data["tag_column"], found.data["scheme"]) == (2, 4, "none")


@pytest.mark.parametrize("names", ["Date,Time", "Datum,Uhrzeit", "fecha,hora"])
def test_a_day_and_a_time_of_day_are_one_time(tmp_path: Path, names: str) -> None:
    rows = [f"{time:%Y-%m-%d,%H:%M},{at}.5" for at, time in enumerate(HOURS)]
    assert "gives each time in several columns" in refused(tmp_path / "a.csv", [f"{names},kW", *rows])


def test_days_as_excel_counts_them_and_months_in_german_are_told(tmp_path: Path) -> None:
    rows = [f"{45_000 + at},{at}.5" for at in range(40)]
    assert "column date has day numbers of Excel (45000)" in refused(tmp_path / "a.csv", ["date,kW", *rows])
    months = [f"{('Mär', 'Mai', 'Okt', 'Dez')[at % 4]} {2000 + at},{at}.5" for at in range(40)]
    assert "column Monat seems to hold times" in refused(tmp_path / "b.csv", ["Monat,kW", *months])


@pytest.mark.slow
def test_files_in_two_codings_are_read_in_their_own(tmp_path: Path) -> None:
    for label, coding in (("süß", "utf-8"), ("herb", "cp1252")):
        (tmp_path / f"{label}.txt").write_text("".join(f"Käse mit {text}\n" for text in TEXTS), encoding=coding)
    kind, found = candidates(Look(tmp_path, "DATA"))
    assert found[kind].data["coding"] == "auto"


def test_totals_between_the_lines_of_a_series_are_told(tmp_path: Path) -> None:
    rows = [f"2021-{at + 1:02}-01,{at}.5\n" + "spring total,9\n" * (at % 3 == 2) for at in range(12)]
    (tmp_path / "a.csv").write_text("month,kW\n" + "".join(rows), encoding="utf-8")
    reader = SeriesWindowsReader([tmp_path / "a.csv"], length=3, columns=["kW"])
    assert list(reader.items())
    assert any(
        "warning: month: lines without a date: 4, the first in line 5, read as steps ('spring total')" in note
        for note in reader.notes
    )


def test_rows_with_as_many_decimal_commas_as_semicolons_are_rows(tmp_path: Path) -> None:
    rows = [";".join(f"{at * of % 7},{of}" for of in range(6)) + f";{'ab'[at % 2]}" for at in range(40)]
    kind, found = proposed(tmp_path / "a.csv", rows)
    assert (kind, found.data["steps"]) == ("series-labels", 6)
    assert [separator_of(line) for line in ("1,5;2,5;3,5", "x;y,1", "a, b; c,d", "a;b\tc", "a;b")] == [*";,,\t;"]
    table = tmp_path / "c.csv"
    table.write_text("".join(f"{at},5;{at},25\n" for at in range(9)), encoding="utf-8")
    assert read_columns(TextFiles(dropped=Counter()), table).numbers[1].tolist() == [1.5, 1.25]


def test_rows_of_numbers_that_no_kind_fits_are_no_text(tmp_path: Path) -> None:
    rows = [",".join(f"{at * of % 7}.{of}" for of in range(6)) for at in range(40)]
    for name, lines in (
        ("a.csv", [f"{row},{'ab'[at % 2]}," for at, row in enumerate(rows)]),
        ("b.csv", [f"x,{r}" for r in rows]),
    ):
        assert "without a header" in refused(tmp_path / name, lines)


def test_words_of_a_table_with_their_tags_are_refused(tmp_path: Path) -> None:
    words = [("Ann", "B-PER"), ("likes", "O"), ("Bonn", "B-LOC")]
    rows = [f"{f'Sentence {at}' * (word == 'Ann')},{word},{tag}" for at in range(20) for word, tag in words]
    assert "column tag has tags of words, such as B-PER and O" in refused(
        tmp_path / "a.csv", ["sentence,word,tag", *rows]
    )


def test_a_column_that_tells_recordings_apart_is_no_measurement(tmp_path: Path) -> None:
    rows = [f"{at // 50},{at % 7}.5,{at % 5}.5,{('sit', 'run')[at // 25 % 2]}" for at in range(200)]
    kind, found = proposed(tmp_path / "a.csv", ["Subject_ID,x,y,doing", *rows])
    assert (kind, found.data["recording"], found.data["columns"]) == ("tagged-frames", "Subject_ID", ["x", "y"])
    reader = TaggedFramesReader([tmp_path / "a.csv"], window=10)
    assert list(reader.items())
    assert any("does it identify the recording? Then set data.recording=Subject_ID" in note for note in reader.notes)


def test_numbers_in_a_column_called_id_are_told(tmp_path: Path) -> None:
    for name, told in (("id", True), ("first", False)):
        lines = [f"{name},b,c,class", *[f"{7 * at + 900},{at % 3}.5,{at % 4}.5,{'ab'[at % 2]}" for at in range(30)]]
        (tmp_path / "a.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        reader = SeriesRowsReader([tmp_path / "a.csv"])
        assert list(reader.items())
        assert any("is it an index?" in note for note in reader.notes) == told


def test_why_a_table_of_transcripts_cannot_be_read_is_told(tmp_path: Path) -> None:
    for at in range(4):
        (tmp_path / f"{at}.wav").write_bytes(b"RIFF")
    (tmp_path / "said.csv").write_text("file,text\n0.wav,one\n0.wav,two\n1.wav,three\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"\(said.csv: line 3: '0.wav' has a different text in an earlier line\)"):
        candidates(Look(tmp_path, "DATA"))


def test_a_column_of_splits_is_no_remark(tmp_path: Path) -> None:
    rows = [f"{text},{at % 2},{('train', 'train', 'test')[at % 3]}" for at, text in enumerate(TEXTS)]
    said = refused(tmp_path / "a.csv", ["dish,taste,part", *rows])
    assert "column part says which lines are test, train" in said


def test_a_column_of_one_value_is_no_label(tmp_path: Path) -> None:
    rows = [f'"{at % 2}","{900 + at}","none","{text}"' for at, text in enumerate(TEXTS)]
    kind, found = proposed(tmp_path / "a.csv", rows)
    assert (kind, found.data["input"], found.data["target"]) == ("labels", "4", "1")


def test_lines_of_fasttext_are_no_text(tmp_path: Path) -> None:
    lines = [f"__label__{at % 2} {text}" for at, text in enumerate(TEXTS)]
    assert "is lines with labels as fastText writes them" in refused(tmp_path / "a.txt", lines)


def test_hours_in_a_column_of_their_own_are_no_series(tmp_path: Path) -> None:
    rows = [f"{time:%Y-%m-%d},{time.hour + 1},{at}.5" for at, time in enumerate(HOURS[:96])]
    assert "column HE seems to give the hours of the days: 1, 2, 3" in refused(
        tmp_path / "a.csv", ["date,HE,kW", *rows]
    )
    rows = [
        f"{time:%Y-%m-%d},{'north' if time.hour % 2 else 'south'}{time.hour},{at}.5"
        for at, time in enumerate(HOURS[:96])
    ]
    assert proposed(tmp_path / "b.csv", ["date,shop,kW", *rows])[1].data["series"] == "shop"


def test_spans_of_time_are_no_texts(tmp_path: Path) -> None:
    rows = [f"{time:%d.%m.%Y %H:00} - {time.hour + 1}:00,{at}.5" for at, time in enumerate(HOURS)]
    assert "column slot seems to hold times" in refused(tmp_path / "a.csv", ["slot,kW", *rows])


def test_years_with_decimals_are_not_what_to_predict(tmp_path: Path) -> None:
    rows = [f"{1960 + at / 12:.3f},{at}.5" for at in range(60)]
    assert proposed(tmp_path / "a.csv", ["time,co2", *rows])[1].data["columns"] == ["co2"]


def test_a_series_that_would_be_mostly_filled_is_refused(tmp_path: Path) -> None:
    days = [(datetime(2021, 1, 1) + timedelta(day)).date() for day in range(40)]
    rows = [f"{day if at != 20 else day.replace(year=2121)},{at}.5\n" for at, day in enumerate(days)]
    (tmp_path / "a.csv").write_text("date,kW\n" + "".join(rows), encoding="utf-8")
    with pytest.raises(UserError, match=r"only 40 of 36,5\d\d steps \(D\) have a line, up to 2121-01-21"):
        list(SeriesTableReader([tmp_path / "a.csv"], horizon=2).items())
    assert list(SeriesTableReader([tmp_path / "a.csv"], horizon=2, gaps="zero").items())


def test_many_numbers_of_three_decimals_beside_semicolons_are_a_warning(tmp_path: Path) -> None:
    for count, told in ((9, False), (10, True)):
        points = Points(";", apart=True)
        for at in range(count):
            points(["a", f"1.{at:03}"], "a.csv")
        assert [note.startswith("warning: 1.000 is read as 1.0") for note in points.notes] == [told]


def test_numbers_beside_spreadsheet_errors_and_durations_are_no_texts(tmp_path: Path) -> None:
    rows = [f"{text},{'#DIV/0!' if at % 9 == 4 else at + 0.5}" for at, text in enumerate(TEXTS)]
    assert "column cost has numbers, but '#DIV/0!' isn't one" in refused(tmp_path / "a.csv", ["dish,cost", *rows])
    rows = [f"{text},{at % 12}:{at + 10}" for at, text in enumerate(TEXTS)]
    assert "column took has times such as 0:10" in refused(tmp_path / "b.csv", ["dish,took", *rows])
