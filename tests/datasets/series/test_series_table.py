"""Tables of series: what their columns are, the grid that they lie on, gaps, duplicates, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.datasets.ingest import ingest
from components.datasets.made.series import MadeSeries
from components.datasets.series.table import SeriesTableReader
from components.datasets.series.times import following, frequency, read_times, season_of
from components.datasets.store import Store
from components.encodings.base import encoding_from_state
from components.encodings.series import SeriesValues
from components.errors import UserError

HOURS = [f"2024-03-0{1 + hour // 24} {hour % 24:02}:00" for hour in range(96)]


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def long(path: Path, names: str = "ab", hours: list[str] = HOURS) -> Path:
    rows = [f"{time},{name},{at + 100 * n}" for n, name in enumerate(names) for at, time in enumerate(hours)]
    return write(path, ["ds,unique_id,y", *rows])


def wide(path: Path, times: list[str] = HOURS) -> Path:
    return write(path, ["when,a,b", *(f"{time},{at},{at + 100}" for at, time in enumerate(times))])


def read(path: Path, **options) -> tuple[list, list[str]]:
    reader = SeriesTableReader([path], **options)
    return list(reader.items()), reader.notes


def refused(path: Path, **options) -> str:
    with pytest.raises(UserError) as caught:
        read(path, **options)
    return str(caught.value)


def test_local_days_with_their_zone_are_refused_with_the_way_out(tmp_path) -> None:
    days = [f"2024-10-{day:02} 00:00:00{'+02:00' if day < 28 else '+01:00'}" for day in range(10, 32)]
    assert "summer time" in refused(wide(tmp_path / "a.csv", days), horizon=2)
    found, _ = read(wide(tmp_path / "a.csv", [day[:10] for day in days]), horizon=2)
    assert found[0].freq == "D"
    assert "summer time" not in refused(wide(tmp_path / "a.csv", [*HOURS[:90], "2024-03-05 00:10"]), horizon=2)


@pytest.mark.parametrize(
    ("cells", "freq", "told"),
    [
        ([f"202401{day:02}" for day in range(1, 29)], "D", "20240101 is read as year, month and day: 2024-01-01"),
        ([f"{2020 + n // 12}{1 + n % 12:02}" for n in range(30)], "MS", "202001 is read as year and month: 2020-01-01"),
        ([f"20240101{n:02}" for n in range(24)], "h", "2024010100 is read as year, month, day and hour: 2024-01-01"),
        ([f"20240101{n:02}0000" for n in range(24)], "h", "20240101000000 is read as year, month, day and time"),
        (
            [f"{1704067200 + 3600 * n}.0" for n in range(30)],
            "h",
            "1704067200 is read as seconds since 1970: 2024-01-01",
        ),
        ([f"{1704067200 + 86400 * n}000" for n in range(30)], "D", "1704067200000 is read as milliseconds since 1970"),
        (
            [f"{1704067200 + n}000000000" for n in range(30)],
            "s",
            "1704067200000000000 is read as nanoseconds since 1970",
        ),
    ],
)
def test_times_that_are_whole_numbers_are_read_and_told(tmp_path, cells, freq, told) -> None:
    path = write(tmp_path / "a.csv", ["timestamp,y", *(f"{cell},{at % 5}" for at, cell in enumerate(cells))])
    (found, *_), notes = read(path, horizon=2)
    assert found.freq == freq
    assert any(note.startswith(told) for note in notes)
    assert found.utc == ("1970" in told)


def test_whole_numbers_that_are_no_times_are_refused(tmp_path) -> None:
    for wrong in ("12345678", "20240231", "19500101", "42", "5000000000"):
        path = write(tmp_path / "a.csv", ["timestamp,y", "20240101,1", f"{wrong},2", "20240103,3"])
        if wrong != "19500101":  # pandas reads it, and it says a day
            assert "isn't a time" in refused(path)
    assert "no column of times" in refused(write(tmp_path / "b.csv", ["price,y", *["20240101,1"] * 5]))


def test_days_that_may_be_months_are_told(tmp_path) -> None:
    days = [f"{day:02}/03/2024" for day in range(1, 13)]
    found, notes = read(wide(tmp_path / "a.csv", days), horizon=2)
    assert found[0].freq == "D"
    assert "in 01/03/2024 the day is assumed to come first: 2024-03-01. Write dates so to be sure" in notes
    _, notes = read(wide(tmp_path / "a.csv", [f"02/01/2024 {hour:02}:00" for hour in range(24)]), horizon=2)
    assert any("come first: 2024-01-02" in note for note in notes)
    years, written = [f"1/1/{year}" for year in range(1980, 1999)], [f"2024-03-{day:02}" for day in range(1, 13)]
    for sure in ([*days, "13/03/2024"], written, years):
        assert not any("come first" in note for note in read(wide(tmp_path / "a.csv", sure), horizon=2)[1])


def test_long_and_wide_tables_and_parquet_are_the_same_series(tmp_path) -> None:
    tall, tall_notes = read(long(tmp_path / "long.csv"))
    flat, flat_notes = read(wide(tmp_path / "wide.csv"))
    frame = pd.read_csv(tmp_path / "long.csv", parse_dates=["ds"])
    frame.to_parquet(tmp_path / "long.parquet")
    packed, _ = read(tmp_path / "long.parquet")
    for found in (tall, flat, packed):
        assert [one.name for one in found] == ["a", "b"]
        assert [(one.freq, one.season, one.horizon) for one in found] == [("h", 24, 24)] * 2
        assert found[1].values.tolist() == [100.0 + at for at in range(96)]
        assert (found[0].times == np.array(HOURS, dtype="datetime64[us]")).all()
    assert tall_notes == ["read of long.csv: time ds; series unique_id; value y"]
    assert flat_notes == ["read of wide.csv: time when; 2 series, a column each: a, b"]


def test_several_columns_may_name_a_series_and_others_are_known_ahead(tmp_path) -> None:
    rows = [
        f"{time};{shop};{item};{at},5;{at % 7};x"
        for shop in ("s1", "s2")
        for item in ("i", "j")
        for at, time in enumerate(HOURS)
    ]
    path = write(tmp_path / "shops.csv", ["time;shop;kind;sold;price;note", *rows])
    assert "which column identifies the series: shop, kind, note?" in refused(path)
    found, notes = read(path, series=("shop", "kind"), value="sold", covariates="price")
    assert [one.name for one in found] == ["s1/i", "s1/j", "s2/i", "s2/j"]
    assert found[0].values[:2].tolist() == [0.5, 1.5], "decimal commas"
    assert found[0].covariates[:, 0].tolist() == [at % 7 for at in range(96)]
    assert "covariates price; not read: note" in notes[0]
    assert "which column is the value: sold, price?" in refused(path, series=("shop", "kind"))


def test_gaps_are_filled_from_the_past_alone_and_told(tmp_path) -> None:
    lines = long(tmp_path / "long.csv").read_text(encoding="utf-8").splitlines()
    kept = [line for at, line in enumerate(lines) if at not in (11, 12, 13, 30)]
    kept[20] = kept[20].rpartition(",")[0] + ","
    path = write(tmp_path / "gaps.csv", kept)
    found, notes = read(path)
    assert len(found[0].values) == 96
    assert found[0].values[9:14].tolist() == [9, 9, 9, 9, 13]
    assert "times without a value: 5, in 1 series; filled: forward (data.gaps); longest gap: 3, in a" in notes
    assert read(path, gaps="zero")[0][0].values[9:14].tolist() == [9, 0, 0, 0, 13]
    assert "5 times without a value or a covariate, the first 2024-03-01 10:00" in refused(path, gaps="refuse")


def test_a_missing_covariate_gets_the_last_one_and_is_told(tmp_path) -> None:
    rows = [f"{time},{at},{7 + at % 2 if at != 5 else ''}" for at, time in enumerate(HOURS) if at != 20]
    path = write(tmp_path / "x.csv", ["time,y,price", *rows])
    for gaps in ("forward", "zero"):
        (one,), notes = read(path, covariates="price", gaps=gaps)
        assert one.covariates[[4, 5, 6, 19, 20, 21], 0].tolist() == [7, 7, 7, 8, 8, 8]
        assert one.values[[5, 20]].tolist() == [5, 19 if gaps == "forward" else 0]
        assert any(note.startswith("times without a value: 2, in 1 series") for note in notes)
    assert "2 times without a value or a covariate, the first 2024-03-01 05:00" in refused(
        path, covariates="price", gaps="refuse"
    )


def test_a_series_of_longer_steps_than_the_others_is_refused(tmp_path) -> None:
    days = [f"2024-03-{day:02},a,{day}" for day in range(1, 13)]
    path = write(tmp_path / "two.csv", ["time,id,y", *days, *(f"{time},b,{at}" for at, time in enumerate(HOURS))])
    assert "series 'a': its step is D, but that of the data is h" in refused(path)
    assert len(read(path, gaps="zero", horizon=2)[0][0].values) == 11 * 24 + 1, "no line: 0"
    reader = SeriesTableReader([path])
    reader.trained_on({"frequency": ["h"]})
    assert [row.problem for row in reader.inputs()] == ["its step is D, but that of the data is h", ""]
    outage = [line for at, line in enumerate(long(tmp_path / "long.csv").read_text().splitlines()) if not 20 < at < 90]
    _, notes = read(write(tmp_path / "outage.csv", outage), horizon=2)
    assert any(note.startswith("warning: times without a value: 69, in 1 series") for note in notes)


def test_series_that_end_early_or_have_no_value_are_told(tmp_path) -> None:
    rows = [f"{time},{at},{at if at < 80 else ''}," for at, time in enumerate(HOURS)]
    found, notes = read(write(tmp_path / "ends.csv", ["time,a,b,c", *rows]), horizon=2)
    assert [(one.name, len(one.values)) for one in found] == [("a", 96), ("b", 80)]
    told = (
        "the series end at 2 different times, from 2024-03-04 07:00:00 to 2024-03-04 23:00:00: each is cut at its own"
    )
    assert f"{told} end" in notes
    assert "series without any value, left out: 1 (c)" in notes


def test_duplicates_are_refused_with_their_line_or_averaged(tmp_path) -> None:
    lines = long(tmp_path / "long.csv").read_text(encoding="utf-8").splitlines()
    path = write(tmp_path / "twice.csv", [*lines, f"{HOURS[5]},b,205"])
    said = refused(path)
    assert "line 194" in said
    assert "b: the time 2024-03-01 05:00 occurs twice" in said
    found, notes = read(path, duplicates="mean")
    assert found[1].values[5] == 155
    assert any("times with several values: 1, in 1 series" in note for note in notes)
    assert any("were sorted by time: 1" in note for note in notes)
    stacked = write(tmp_path / "stacked.csv", ["time,y", *[f"{time},1" for time in HOURS * 2]])
    assert "set data.series to the columns that identify the series" in refused(stacked)


@pytest.mark.parametrize(
    ("freq", "season"), [("15min", 96), ("h", 24), ("B", 5), ("D", 7), ("W-MON", 52), ("MS", 12), ("ME", 12), ("YS", 1)]
)
def test_regular_steps_are_inferred_even_with_gaps(freq, season) -> None:
    times = pd.date_range("2020-01-01", periods=200, freq=freq)
    whole = times.to_numpy()
    name = frequency([whole])
    assert season_of(name) == season
    assert frequency([np.delete(whole, [50, 51, 120])]) == name
    assert (following(whole[-2], name, 1) == whole[-1:]).all()


@pytest.mark.parametrize(("form", "there"), [("{m}/1/{y}", "MS"), ("1/{m}/{y}", "MS"), ("{m}/15/{y}", None)])
def test_months_are_written_in_any_order(form, there) -> None:
    """Of 1/1/2023 … 12/1/2024 each alone could be a day of January."""
    cells = [form.format(m=at % 12 + 1, y=2023 + at // 12) for at in range(24)]
    times, _ = read_times(cells, cells)
    assert frequency([times]) == there
    assert len(set(times.astype("datetime64[M]"))) == 24


@pytest.mark.parametrize(
    ("lines", "options", "said"),
    [
        (["time,y", *[f"2024-01-{day:02},1" for day in (1, 2, 4, 8, 16, 31)]], {}, "no regular step"),
        (["time,y", *[f"2024-01-{day:02},1" for day in (1, 8, 15, 16)]], {"freq": "7D"}, "isn't on a grid of step 7D"),
        (["time,y", "2024-01-01,1", "9999-01-01,1"], {"freq": "s"}, "more than 16,777,216 steps"),
        (["time,y", "2024-01-01,1", "soon,1"], {}, "'soon' isn't a time"),
        (["time,y", "2024-01-01T00:00Z,1", "2024-01-01 01:00,1"], {}, "some times have a zone"),
        (["a,b", "x,1", "y,2"], {}, "no column of times"),
        (["time,y", "2024-01-01,high"], {}, "no column of numbers\ny begins with 'high'"),
        (["2024-01-01,3", "2024-01-02,4", "2024-01-03,5"], {}, "the first line isn't a header: 2024-01-01, 3"),
        (["time,y"], {}, "no lines below the header"),
        (["time,y", "2024-01-01,1"], {"value": "z"}, "column"),
        (["time,y", "2024-01-01,1"], {"freq": "often"}, "isn't a frequency"),
        (["time,id,y", "2024-01-01,,1"], {}, "the series' name is missing"),
    ],
)
def test_what_is_no_series_is_refused_with_the_way_out(tmp_path, lines, options, said) -> None:
    assert said in refused(write(tmp_path / "x.csv", lines), **options)


def test_a_file_to_be_predicted_has_the_steps_of_training_where_it_fits_them(tmp_path) -> None:
    quarters = [f"{2000 + at // 4}-{at % 4 * 3 + 1:02}-01" for at in range(1, 30)]
    path = write(tmp_path / "q.csv", ["date,y", *[f"{time},{at}" for at, time in enumerate(quarters)]])
    reader = SeriesTableReader([path])
    for trained, there in (
        ("QS-JAN", "QS-JAN"),
        ("QS-OCT", "QS-OCT"),
        ("D", frequency([np.array(quarters, "M8[us]")])),
    ):
        reader.trained_on({"frequency": [trained]})
        (row,) = reader.inputs()
        assert row.input.freq == there
    few = write(tmp_path / "few.csv", ["date,y", *[f"{HOURS[at]},1" for at in (0, 2, 3, 4)]])
    reader = SeriesTableReader([few])
    reader.trained_on({"frequency": ["h"]})
    assert len(next(iter(reader.inputs())).input.values) == 5


def test_times_keep_their_precision_and_their_zone(tmp_path) -> None:
    exact = [f"2024-01-01T00:00:00.{at:06}123" for at in range(40)]
    found, _ = read(wide(tmp_path / "ns.csv", exact), freq="us", horizon=2)
    assert str(found[0].times[7]) == "2024-01-01T00:00:00.000007123"
    zoned = [f"{time}+02:00" for time in HOURS]
    found, _ = read(wide(tmp_path / "zone.csv", zoned))
    assert found[0].utc
    assert str(found[0].times[0]).startswith("2024-02-29T22:00")


def test_parts_end_where_the_next_begins(tmp_path) -> None:
    data = {"path": str(long(tmp_path / "long.csv")), "reader": "series-table", "horizon": 6, "origins": 2}
    data["split"] = (0.8, 0.1, 0.1)
    ref = ingest(data, {"kind": "series"}, root=tmp_path, cache_dir=tmp_path / "cache", seed=0)
    store = Store.open(ref.path)
    ends = {name: store.split(name).fields["series"].lengths.tolist() for name in ("train", "val", "test")}
    assert ends == {"train": [72, 72], "val": [84, 84], "test": [96, 96]}
    assert "2 series, step h, season of 24 steps; 6 steps are predicted" in " ".join(store.manifest["notes"])
    short = {**data, "horizon": 24}
    with pytest.raises(UserError, match=r"2 × series too short for data.horizon and data.origins"):
        ingest(short, {"kind": "series"}, root=tmp_path, cache_dir=tmp_path / "cache", seed=0)
    other = ingest({**data, "split": (0.5, 0.3, 0.2)}, {"kind": "series"}, root=tmp_path, cache_dir=tmp_path, seed=0)
    assert any(note.startswith("of data.split only zeros matter") for note in Store.open(other.path).manifest["notes"])


def test_large_values_keep_their_digits_in_the_store() -> None:
    (one,) = MadeSeries(count=1, steps=400).whole()
    large = one._replace(values=1_699_999_000.125 + np.arange(400) / 8)
    encoding = SeriesValues()
    encoding.fit([large])
    assert encoding.steady == 1
    assert "task.centre: true" in encoding.remarks()[1]
    again = encoding_from_state(encoding.state())
    assert np.abs(again.decode(again.encode(large)) - large.values).max() == 0
    assert again.read_lags == (*range(2, 8), 23, 24, 25, 47, 48, 49, 71, 72, 73, 167, 168, 169)
    assert again.cycles == ("day", "week")
    for wrong in (1e39, np.nan, 1e-60):
        with pytest.raises(UserError, match="outside float32's range"):
            again.encode(large._replace(values=np.full(400, wrong)))
    with pytest.raises(UserError, match="has step D, but the training data have h"):
        again.encode(large._replace(freq="D"))
