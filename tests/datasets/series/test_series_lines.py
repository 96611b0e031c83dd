"""Series that stand one on each line: their names, values and times, `.tsf` files, and test files that go on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.datasets.ingest import ingest
from components.datasets.series.lines import SeriesLinesReader
from components.datasets.series.table import SeriesTableReader
from components.datasets.store import Store
from components.encodings.series import Series
from components.errors import UserError

M4 = '"V1",' + ",".join(f'"V{n}"' for n in range(2, 14))  # of twelve values
TSF = """# of the Monash archive
@relation rain
@attribute series_name string
@attribute state string
@attribute start_timestamp date
@frequency {frequency}
@horizon 2
@missing true
@equallength false
@data
"""


def line(name: str, values, width: int = 12) -> str:
    cells = [f'"{value}"' for value in values]
    return ",".join([f'"{name}"', *cells, *[""] * (width - len(cells))])


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(path: Path, **options) -> tuple[list[Series], list[str]]:
    reader = SeriesLinesReader([path], **({"horizon": 2} | options))
    found = reader.whole()
    return found, reader.notes


def refused(path: Path, **options) -> str:
    with pytest.raises(UserError) as caught:
        read(path, **options)
    return str(caught.value)


def test_rows_of_different_lengths_are_counted_from_a_time_that_is_told(tmp_path) -> None:
    path = write(tmp_path / "a.csv", M4, line("H1", range(12)), "", line("H2", range(9)))
    found, notes = read(path, freq="h")
    assert [(one.name, one.values.tolist(), one.freq, one.season) for one in found] == [
        ("H1", list(range(12)), "h", 24),
        ("H2", list(range(9)), "h", 24),
    ]
    assert [str(one.times[-1]) for one in found] == ["2000-01-01T11:00:00", "2000-01-01T08:00:00"]
    assert notes[0] == "read of a.csv: a series on each line; its name V1; 12 values from V2 to V13, in this order"
    assert "counted from 2000-01-01 (data.start) on in steps of h" in notes[1]
    (first, _), notes = read(path, freq="MS", start="1990-05-01")
    assert str(first.times[1])[:10] == "1990-06-01"
    assert "counted from data.start on in steps of MS" in notes[1]


def test_a_step_is_needed_where_there_are_no_times(tmp_path) -> None:
    path = write(tmp_path / "a.csv", M4, line("H1", range(12)))
    assert "set data.freq to the time between values" in refused(path)
    assert "isn't a frequency" in refused(path, freq="hourly")
    assert "isn't a time" in refused(path, freq="h", start="noon")


def test_gaps_within_a_row_are_filled_and_told_and_those_at_its_ends_are_none(tmp_path) -> None:
    path = write(tmp_path / "a.csv", M4, line("H1", ["", 1, "NA", 3]), line("H2", range(12)))
    (first, _), notes = read(path, freq="D")
    assert (first.values.tolist(), str(first.times[0])[:10]) == ([1, 1, 3], "2000-01-02")
    assert any(note.startswith("times without a value: 1, in 1 series; filled: forward") for note in notes)
    assert "1 times without a value" in refused(path, freq="D", gaps="refuse")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([line("H1", range(12)), line("H1", range(12))], "line 3: the series 'H1' is also in a.csv"),
        ([line("H1", range(12)), line("", range(12))], "line 3: the series has no name"),
        ([line("H1", range(12)), line("H2", [1, "x2", 3])], "line 3: value 2: 'x2' isn't a number"),
        ([line("H1", range(12)), line("H2", [1, "1_000"])], "line 3: value 2: '1_000' isn't a number"),
        ([line("H1", range(12)), line("H2", [1, "inf"])], "line 3: value 2: 'inf' isn't a number"),
        ([line("H1", range(12)), line("H2", range(13), 13)], "line 3: has 14 cells, but the header has 13"),
        ([line("2024-01-01", range(12)), line("2024-01-02", range(12))], "data.reader=series-table"),
        ([], "contains no series"),
    ],
)
def test_wrong_rows_are_refused_with_their_line(tmp_path, rows, said) -> None:
    assert said in refused(write(tmp_path / "a.csv", M4, *rows), freq="h")


def test_a_series_without_values_is_left_out_and_told_and_short_ones_are_dropped(tmp_path) -> None:
    path = write(tmp_path / "a.csv", M4, line("H1", range(12)), line("H2", []), line("H3", range(3)))
    reader = SeriesLinesReader([path], freq="h", horizon=2)
    assert [one.name for one in reader.items()] == ["H1"]
    assert "series without any value, left out: 1 (H2)" in reader.notes
    assert dict(reader.dropped) == {"series too short for data.horizon and data.origins": 1}


def test_times_in_the_header_are_read_and_columns_before_them_are_not(tmp_path) -> None:
    days = [f"1/{day}/24" for day in range(22, 30)]
    path = write(tmp_path / "a.csv", f"Region,Lat,{','.join(days)}", "Fiji,-17.7,1,2,3,4,5,6,7,8", "Chad,15.4,8,7,6,5")
    (fiji, chad), notes = read(path)
    assert (fiji.freq, str(fiji.times[0])[:10], fiji.values.tolist()) == ("D", "2024-01-22", list(range(1, 9)))
    assert chad.values.tolist() == [8, 7, 6, 5]
    told = "its name Region; 8 values from 1/22/24 to 1/29/24, their times; not read: Lat"
    assert notes[0] == f"read of a.csv: a series on each line; {told}"
    years = write(tmp_path / "b.csv", "country;1963;1962;1961;1960;", "Chad;4,5;3;2;1;")
    (chad,), _ = read(years)
    assert (chad.values.tolist(), str(chad.times[0])[:4], chad.freq) == ([1, 2, 3, 4.5], "1960", "YS-JAN")
    both = write(tmp_path / "c.csv", "shop,2024-01-01,2024-01-01,2024-01-02", "a,1,2,3")
    assert "two columns are named 2024-01-01" in refused(both)


def test_several_columns_name_a_series(tmp_path) -> None:
    path = write(tmp_path / "a.csv", "id,shop,item,d_1,d_2,d_3", "7,n,tea,1,2,3", "8,s,tea,4,5,6")
    assert [one.name for one in read(path, freq="D")[0]] == ["7", "8"]
    found, notes = read(path, freq="D", series=("item", "shop"))
    assert [one.name for one in found] == ["tea/n", "tea/s"]
    assert "not read: id" in notes[0]
    assert "unknown column 'shops'" in refused(path, freq="D", series="shops")


def test_a_header_that_only_counts_is_no_series_and_names_are_needed(tmp_path) -> None:
    assert [one.name for one in read(write(tmp_path / "a.csv", "id,0,1,2", "7,5,6,7"), freq="D")[0]] == ["7"]
    found, notes = read(write(tmp_path / "b.csv", "H1,5,9,7", "H2,1,2"), freq="D")
    assert [one.values.tolist() for one in found] == [[5, 9, 7], [1, 2]]
    assert "no header" in notes[0]
    assert "no name of the series 5" in refused(write(tmp_path / "c.csv", "5,9,7", "4,4,2"), freq="D")


@pytest.mark.parametrize(
    ("frequency", "start", "freq", "first"),
    [
        ("half_hourly", "2020-02-01 10-30-00", "30min", "2020-02-01T10:30:00"),
        ("10_minutes", "2020-02-01 10-30-00", "10min", "2020-02-01T10:30:00"),
        ("weekly", "2020-02-01 00-00-00", "W-MON", "2020-01-27T00:00:00"),
        ("monthly", "2020-02-11 00-00-00", "MS", "2020-02-01T00:00:00"),
        ("yearly", "2020-02-11 00-00-00", "YS", "2020-01-01T00:00:00"),
    ],
)
def test_tsf_files_with_their_steps_and_horizon(tmp_path, frequency, start, freq, first) -> None:
    path = write(
        tmp_path / "a.tsf", TSF.format(frequency=frequency) + f"T1:NSW:{start}:1,2.5,?,4\nT2:VIC:{start}:5,6,7"
    )
    reader = SeriesLinesReader([path])
    one, two = reader.whole()
    assert (one.name, two.name, one.values.tolist(), one.freq, one.horizon) == ("T1", "T2", [1, 2.5, 2.5, 4], freq, 2)
    assert str(one.times[0].astype("datetime64[s]")) == first
    moved = [note for note in reader.notes if note.endswith("are moved to the step before: 2")]
    assert bool(moved) == (first[:10] != start[:10])
    assert not any("counted" in note for note in reader.notes)


def test_tsf_files_that_are_wrong_are_refused_with_their_line(tmp_path) -> None:
    start = "2020-01-01 00-00-00"
    good = TSF.format(frequency="daily")
    for text, said in (
        (TSF.format(frequency="now and then"), "line 6: @frequency 'now and then' isn't known"),
        (good.replace("@horizon 2", "@horizon two"), "line 7: @horizon 'two' isn't a number"),
        (good.replace("state string", "state text"), "line 4: @attribute 'state text'"),
        (
            good.replace("@data", "") + f"T1:NSW:{start}:1,2",
            "line 11: 'T1:NSW:2020-01-01 00-00-00:1,2' isn't a header line",
        ),
        (good + f"T1:{start}:1,2", "line 11: has 2 attributes before the values, but the header has 3"),
        (good + "T1:NSW:today:1,2", "line 11: 'today' isn't a time"),
        (good + f"T1:NSW:{start}:1,two", "line 11: value 2: 'two' isn't a number"),
        (good + f"T1:NSW:{start}:1\nT1:VIC:{start}:2", "line 12: the series 'T1' is also in a.tsf"),
        (good, "contains no series"),
        ("@relation x\n", "has no line @data"),
        ("@attribute n numeric\n@data\n1:2", "no @attribute names the series"),
    ):
        assert said in refused(write(tmp_path / "a.tsf", text))
    without = good.replace("@frequency daily\n", "").replace("@attribute start_timestamp date\n", "")
    path = write(tmp_path / "b.tsf", without + "T1:NSW:1,2,3")
    assert "the values have no times" in refused(path)
    assert str(read(path, freq="QS")[0][0].times[-1])[:10] == "2000-07-01"


def splits(folder: Path, train: list[str], test: list[str]) -> dict[str, str]:
    folder.mkdir()
    paths = {"train": write(folder / "a-train.csv", *train), "test": write(folder / "a-test.csv", *test)}
    return {split: str(path) for split, path in paths.items()}


def ingested(paths: dict[str, str], tmp_path: Path, reader: str = "series-lines", **options) -> Store:
    data = {"reader": reader, "path": paths, "horizon": 2} | options
    return Store.open(ingest(data, {"kind": "series"}, root=tmp_path, cache_dir=tmp_path / "cache", seed=0).path)


def values(store: Store, split: str) -> list[list[float]]:
    return [frames[:, 0].tolist() for frames in store.split(split).fields["series"]]


@pytest.mark.slow
def test_rows_of_a_test_file_go_on_where_those_of_train_end(tmp_path) -> None:
    train = [M4, line("H1", range(12)), line("H2", range(100, 109)), line("H3", range(4))]
    alone = ["id,1,2", "H2,-1,-2", "H9,1,2", "H1,-3,-4", "H3,1,2"]
    store = ingested(splits(tmp_path / "on", train, alone), tmp_path, freq="h")
    assert values(store, "train") == [list(range(10)), list(range(100, 107))]
    assert values(store, "val") == [list(range(12)), list(range(100, 109))]
    assert values(store, "test") == [[*range(12), -3, -4], [*range(100, 109), -1, -2]]
    assert "2 series of a-test.csv continue those of a-train.csv" in store.manifest["notes"]
    left_out = "series of a-test.csv that a-train.csv doesn't have, left out: 2"
    assert left_out in store.manifest["notes"]
    again = [M4 + ',"V14","V15"', line("H1", [*range(12), -3, -4], 14), line("H2", [*range(100, 109), -1, -2], 14)]
    repeated = ingested(splits(tmp_path / "again", train[:3], again), tmp_path, freq="h")
    assert values(repeated, "test") == values(store, "test")


@pytest.mark.slow
def test_test_rows_that_are_too_short_or_missing_are_refused(tmp_path) -> None:
    train = [M4, line("H1", range(12)), line("H2", range(12))]
    for number, (test, said) in enumerate(
        [
            (["id,1", "H1,1", "H2,1"], r"H1 has 1 values that a-train.csv doesn't have, but 2 are predicted"),
            (["id,1,2", "H1,1,2"], r"1 of the 2 series of a-train.csv are missing: H2"),
        ]
    ):
        with pytest.raises(UserError, match=said):
            ingested(splits(tmp_path / str(number), train, test), tmp_path, freq="h")


@pytest.mark.slow
def test_a_long_table_of_test_goes_on_too_where_its_times_do(tmp_path) -> None:
    def table(first: int, last: int) -> list[str]:
        rows = [
            f"2024-01-{day:02},{shop},{day + up}" for shop, up in (("n", 0), ("s", 50)) for day in range(first, last)
        ]
        return ["day,shop,sold", *rows]

    on = ingested(splits(tmp_path / "on", table(1, 15), table(15, 19)), tmp_path, "series-table")
    assert values(on, "test") == [list(range(1, 19)), list(range(51, 69))]
    later = ingested(splits(tmp_path / "later", table(1, 15), table(20, 29)), tmp_path, "series-table")
    assert values(later, "test") == [list(range(20, 29)), list(range(70, 79))]


def test_predicting_goes_on_from_the_end_of_each_row(tmp_path) -> None:
    path = write(tmp_path / "new.csv", "name,1,2,3", "a,1,2,3", "b,4", "c,,")
    reader = SeriesLinesReader([path], freq="h", horizon=2)
    reader.trained_on({"series": ("V1",), "frequency": ("h",)})
    rows = list(reader.inputs())
    assert [(row.shown["series"], row.problem) for row in rows] == [("a", ""), ("b", ""), ("c", "no value")]
    assert np.array_equal(rows[0].input.values, [1, 2, 3])


def test_the_reader_of_tables_names_this_one(tmp_path) -> None:
    path = write(tmp_path / "a.csv", M4, line("H1", range(12)))
    with pytest.raises(UserError, match=r"data.reader=series-lines"):
        SeriesTableReader([path]).whole()
