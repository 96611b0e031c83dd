"""Tables as spreadsheets write them: what `reprise new` would read wrongly is put right or refused."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from components.datasets.series.windows import SeriesWindowsReader
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
    ],
)
def test_times_across_a_table_are_no_series_each(tmp_path: Path, header: list[str], told: str) -> None:
    times = [f"{1980 + at}" if header[0] == "year" else f"2021-06-{at + 1:02}" for at in range(30)]
    rows = [",".join([time, *(f"{at}.{of}" for of in range(len(header) - 1))]) for at, time in enumerate(times)]
    said = refused(tmp_path / "a.csv", [",".join(header), *rows])
    assert told in said
    assert "to read each column as a series of its own: --as forecast" in said


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
