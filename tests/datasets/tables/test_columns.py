"""Tables of measurements: one long series in windows split by time, and frames with a label each."""

from __future__ import annotations

import csv
from datetime import date, timedelta

import numpy as np
import pytest

from components.bundle import load_bundle, save_bundle
from components.datasets.files.text import TextFiles
from components.datasets.ingest import ingest
from components.datasets.series.tagged_frames import TaggedFramesReader
from components.datasets.series.windows import SeriesWindowsReader
from components.datasets.store import Store
from components.datasets.tables.columns import read_columns
from components.errors import UserError
from components.evaluation.baseline import baseline_metrics
from components.recipe import Recipe
from components.training.session import Session
from components.use.files import reader_for
from components.use.table import predict_file


def write(folder, content, name="t.csv"):
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def table(folder, content, texts=()):
    from collections import Counter

    return read_columns(TextFiles(errors="refuse", max_bytes=None, dropped=Counter()), write(folder, content), texts)


@pytest.mark.parametrize(
    ("content", "names", "numbers"),
    [
        ("day,a,b\n2001-02,1,2\n2001-03,3,4\n", ["day", "a", "b"], ["a", "b"]),
        ("1\t2\n3\t4\n", ["1", "2"], ["1", "2"]),
        ("2001-02-03;1,5\n2001-02-04;2,5\n", ["1", "2"], ["2"]),
        ("x|y\n1|\n|nan\n", ["x", "y"], ["x"]),
        ("value\n3\n4\n", ["value"], ["value"]),
        ("3\n\n4\n", ["1"], ["1"]),
    ],
)
def test_separator_header_and_columns_of_numbers_are_found(tmp_path, content, names, numbers) -> None:
    found = table(tmp_path, content)
    assert found.names == names
    assert found.of_numbers() == numbers
    assert len(found.numbers) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,a\n1,2\n", "two columns are called 'a'"),
        ("a,b\n1,2\n3\n", "line 3: has 1 cells, but the first line has 2"),
        ("\n\n", "no lines"),
    ],
)
def test_what_is_no_table_is_refused_with_its_place(tmp_path, content, said) -> None:
    with pytest.raises(UserError, match=said):
        table(tmp_path, content)


def series(length=40, missing=()):
    lines = [f"200{n // 12}-{n % 12 + 1:02},{'' if n in missing else n * 10},{n % 3}" for n in range(length)]
    return "month,sales,season\n" + "\n".join(lines) + "\n"


def part(reader, name, fractions=(0.5, 0.25, 0.25)):
    reader.part, reader.fractions = name, fractions
    return list(reader.items())


def test_a_series_is_cut_into_windows_and_what_comes_next(tmp_path) -> None:
    reader = SeriesWindowsReader([write(tmp_path, series())], length=4, horizon=2, stride=3, columns="sales")
    items = list(reader.items())
    assert len(items) == 12
    assert items[1][0].tolist() == [[30], [40], [50], [60]]
    assert items[1][1] == [70, 80]
    assert reader.notes == ["read of t.csv: sales; not read: month, season"]
    both = SeriesWindowsReader([reader.files[0]], length=2, columns=("sales", "season"), target="season")
    window, after = next(both.items())
    assert (window.tolist(), after) == ([[0, 0], [10, 1]], [2])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("columns", "target", "standardise"),
    [
        ("sales", None, True),
        ("sales", None, False),
        (["season", "sales"], None, True),
        (["season", "sales"], "sales", True),
    ],
)
def test_a_forecast_stands_beside_the_last_value(tmp_path, columns, target, standardise) -> None:
    data = {"path": str(write(tmp_path, series(60))), "reader": "series-windows", "length": 4, "horizon": 2}
    made = recipe(
        {**data, "columns": columns, "target": target}, {"kind": "frames", "standardise": standardise}, "regression"
    )
    store = Store.open(ingest(made.data, made.encoding, root=tmp_path, cache_dir=tmp_path / "c", seed=0).path)
    task = Session(made, store, "cpu", 1).task
    found = baseline_metrics(task, store, {f"test/{task.primary}": 1.0})
    targets = target or columns
    numbers = {"sales": np.arange(60) * 10.0, "season": np.arange(60) % 3}
    table_TK = np.stack([numbers[name] for name in ([targets] if isinstance(targets, str) else targets)], axis=1)
    ends = range(54, 59)  # of the windows that test predicts from: the steps 54 to 59 are test
    error_BK = np.stack(
        [np.concatenate([table_TK[t] - table_TK[t - 1], table_TK[t + 1] - table_TK[t - 1]]) for t in ends]
    )
    if task.primary == "standardised_mse":
        error_BK /= store.encoding().target.deviation_W
    assert found["baseline/test/last value"] == pytest.approx(np.square(error_BK).mean(), rel=1e-4)


@pytest.mark.slow
def test_what_is_not_in_the_input_has_no_last_value(tmp_path) -> None:
    data = {"path": str(write(tmp_path, series(60))), "reader": "series-windows", "length": 4, "columns": "season"}
    made = recipe({**data, "target": "sales"}, {"kind": "frames"}, "regression")
    store = Store.open(ingest(made.data, made.encoding, root=tmp_path, cache_dir=tmp_path / "c", seed=0).path)
    assert store.manifest["continues"] == []
    assert set(baseline_metrics(Session(made, store, "cpu", 1).task, store, {"test/mse": 1.0})) == {
        "baseline/test/mean"
    }


def test_no_value_is_predicted_in_two_splits_and_test_is_the_latest(tmp_path) -> None:
    reader = SeriesWindowsReader([write(tmp_path, series())], length=4, horizon=2, columns="sales")
    told = {name: {value for _, after in part(reader, name) for value in after} for name in ("train", "val", "test")}
    assert max(told["train"]) < min(told["val"]) <= max(told["val"]) < min(told["test"])
    read = {value for window, _ in part(reader, "train") for value in window.ravel()}
    assert max(read) < min(told["val"]), "training reads nothing that val is asked for"
    assert max(told["test"]) == 390


def test_windows_with_a_missing_value_are_left_out(tmp_path) -> None:
    reader = SeriesWindowsReader([write(tmp_path, series(12, missing=(6,)))], length=3, columns="sales")
    assert len(list(reader.items())) == 5
    assert reader.dropped == {"window with a missing value": 4}


DAYS = [date(2023, 11, 5) + timedelta(days=9 * n) for n in range(12)]  # days above 12, and of two years


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%d",
        "%Y/%m/%d",
        "%d.%m.%Y",
        "%d/%m/%Y",
        "%m/%d/%Y",
        "%m/%d/%y 09:30 PM",
        "%d-%b-%Y",
        '"%b %d, %Y"',
        "%d %B %Y",
    ],
)
def test_a_series_whose_newest_line_is_the_first_is_refused_however_its_dates_are_written(tmp_path, form) -> None:
    lines = [f"{day.strftime(form)};{n * n}" for n, day in enumerate(DAYS)]
    options = {"length": 4, "columns": "x"}
    forward = write(tmp_path, "\n".join(["when;x", *lines]))
    assert len(list(SeriesWindowsReader([forward], **options).items())) == 8
    back = write(tmp_path, "\n".join(["when;x", *lines[::-1]]))
    with pytest.raises(UserError, match="the newest line comes first: when goes from"):
        list(SeriesWindowsReader([back], **options).items())
    mixed = write(tmp_path, "\n".join(["when;x", *lines[6:], *lines[:6]]))
    with pytest.raises(UserError, match="when goes back in time here"):
        list(SeriesWindowsReader([mixed], **options).items())


def test_time_that_falls_and_lines_without_a_date_are_told(tmp_path) -> None:
    back = write(tmp_path, "year,x\n" + "".join(f"{2020 - n},{n * n}\n" for n in range(9)))
    reader = SeriesWindowsReader([back], length=4, columns="x")
    assert len(list(reader.items())) == 5
    said = "warning: year decreases in every line, from 2020 to 2012: does the newest line come first?"
    assert said in reader.notes
    asked = SeriesWindowsReader([back], length=4, columns="x")
    assert len(list(asked.inputs())) == 1
    assert asked.notes == [said]
    gone = write(tmp_path, "day,x\n" + "".join(f"{'' if n == 7 else f'2020-01-0{n}'},{n}\n" for n in range(1, 9)))
    reader = SeriesWindowsReader([gone], length=4, columns="x")
    assert len(list(reader.items())) == 4
    assert "t.csv: day: lines without a date: 1, the first in line 8" in reader.notes


def test_days_that_may_be_months_are_read_as_they_go_forward(tmp_path) -> None:
    for months in (["1/2/2024", "2/2/2024", "3/2/2024", "1/3/2024"], ["1/2/2024", "1/3/2024", "2/2/2024", "3/1/2024"]):
        path = write(tmp_path, "\n".join(["when,x", *(f"{day},1{n}" for n, day in enumerate(months))]))
        assert len(list(SeriesWindowsReader([path], length=2, columns="x").items())) == 2


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (series(), {}, r"which of the 2 columns of numbers\?(.|\n)*data.columns=\[sales, season\]"),
        (series(), {"columns": "sale"}, "unknown column 'sale'.*'sales'"),
        (series(), {"columns": "month"}, "line 2: column 'month': '2000-01' isn't a number"),
        (series(4), {"columns": "sales"}, "4 lines are too few for a window of 4 and 1 to predict"),
        ("month,x\n2002-03,1\n2002-02,2\n2002-01,3\n", {"columns": "x"}, "newest line comes first: month goes from"),
        ("a,b\nx,y\nz,w\n", {}, "no column of numbers"),
    ],
)
def test_a_series_that_cannot_be_cut_is_refused_with_the_way_out(tmp_path, content, options, said) -> None:
    with pytest.raises(UserError, match=said):
        list(SeriesWindowsReader([write(tmp_path, content)], length=4, **options).items())


def recipe(data: dict, target: dict, task: str, **model) -> Recipe:
    values = {
        "data": data,
        "encoding": {"kind": "pair", "input": {"kind": "frames"}, "target": target},
        "task": {"kind": task},
        "model": {"kind": "gru", "hidden_size": 8, **model},
        "training": {"steps": 60, "batch_size": 16, "learning_rate": 2e-2},
        "evaluation": {"every": 30},
    }
    return Recipe.from_dict("mine", values)


def trained(made: Recipe, folder, silent):
    store = Store.open(ingest(made.data, made.encoding, root=folder, cache_dir=folder / "c", seed=0).path)
    session = Session(made, store, "cpu", 1)
    session.train(folder / "run", silent)
    facts = {"framing": "sequences"}
    save_bundle(folder / "bundle", "mine", session.model, session.encoding, made.as_dict(), facts)
    return store, session, load_bundle(folder / "bundle")


def answers(bundle, path):
    out = path.with_name("answers.csv")
    counts = predict_file(bundle, reader_for(path, bundle.recipe["data"]), out)
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file)), counts


@pytest.mark.slow
def test_what_comes_after_a_series_is_answered_from_its_last_lines(tmp_path, silent) -> None:
    data = {"path": str(write(tmp_path, series(60))), "reader": "series-windows", "length": 6, "columns": "sales"}
    store, session, bundle = trained(recipe(data, {"kind": "frames"}, "regression"), tmp_path, silent)
    sizes = {split: store.manifest["counts"][split]["sequences"] for split in ("train", "val", "test")}
    assert sizes == {"train": 42, "val": 6, "test": 6}
    assert session.evaluate("train")["mae"] < 100
    rows, _ = answers(bundle, write(tmp_path, series(30), "new.csv"))
    assert [(row["file"], row["lines"], row["problem"]) for row in rows] == [("new.csv", "30", "")]
    assert bundle.predict([np.arange(24.0, 30)[:, None] * 10])[0] == [float(rows[0]["predicted"])]
    rows, _ = answers(bundle, write(tmp_path, series(4), "new.csv"))
    assert rows[0]["problem"] == "has 4 lines, but the model needs 6"


@pytest.mark.slow
def test_val_is_the_end_of_train_where_only_train_and_test_are_given(tmp_path) -> None:
    paths = {split: str(write(tmp_path, series(), f"{split}.csv")) for split in ("train", "test")}
    data = {"path": paths, "reader": "series-windows", "length": 4, "columns": "sales", "split": [0.6, 0.2, 0.2]}
    made = recipe(data, {"kind": "frames"}, "regression")
    store = Store.open(ingest(made.data, made.encoding, root=tmp_path, cache_dir=tmp_path / "c", seed=0).path)
    sizes = [store.manifest["counts"][split]["sequences"] for split in ("train", "val", "test")]
    assert sizes == [26, 10, 36]


def sensor(count=400, labels=True, order="xy"):
    rng = np.random.default_rng(0)
    lines = []
    for n in range(count):
        walking = n // 25 % 2
        values = {"x": rng.normal(walking * 3, 0.3), "y": rng.normal()}
        cells = [f"{values[name]:.3f}" for name in order]
        lines.append(",".join([f"r{n // 200}", *cells, *(["go, left" if walking else "rest"] if labels else [])]))
    lines = [line.replace("go, left", '"go, left"') for line in lines]
    return ",".join(["who", *order, *(["what"] if labels else [])]) + "\n" + "\n".join(lines) + "\n"


@pytest.mark.slow
def test_frames_with_a_label_each_are_learned_and_answered_line_by_line(tmp_path, silent) -> None:
    data = {"path": str(write(tmp_path, sensor())), "reader": "tagged-frames", "recording": "who", "window": 40}
    made = recipe(data, {"kind": "labels"}, "tagging", bidirectional=True)
    store, session, bundle = trained(made, tmp_path, silent)
    sizes = {split: store.manifest["counts"][split]["tokens"] for split in ("train", "val", "test")}
    assert sizes == {"train": 320, "val": 40, "test": 40}, "of both recordings the first part"
    assert session.evaluate("test")["accuracy"] > 0.9
    session.task.findings(session.model, store.split("test"))
    with_labels, counts = answers(bundle, write(tmp_path, sensor(100), "new.csv"))
    assert len(with_labels) == 100
    assert [row["line"] for row in with_labels[:2]] == ["2", "3"]
    assert set(counts) == {"rest", "go, left"}
    wanted = ["go, left" if n // 25 % 2 else "rest" for n in range(100)]
    assert np.mean([row["predicted"] == label for row, label in zip(with_labels, wanted, strict=True)]) > 0.9
    without, _ = answers(bundle, write(tmp_path, sensor(100, labels=False, order="yx"), "new.csv"))
    assert [row["predicted"] for row in without] == [row["predicted"] for row in with_labels]


@pytest.mark.parametrize("reader", ["series-rows", "frame-files"])
def test_who_reads_columns_with_a_reader_of_rows_is_told_the_others(tmp_path, reader) -> None:
    data = {"path": str(write(tmp_path, "month,sales\n2001-01,up\n2001-02,down\n")), "reader": reader}
    encoding = {"kind": "pair", "input": {"kind": "frames"}, "target": {"kind": "labels"}}
    with pytest.raises(UserError, match=r"no data are left(.|\n)*series-windows(.|\n)*tagged-frames"):
        ingest(data, encoding, root=tmp_path, cache_dir=tmp_path / "c", seed=0)


def test_frames_with_missing_values_or_labels_are_counted(tmp_path) -> None:
    path = write(tmp_path, "x,what\n1,a\n2,b\n\n,a\n4,\n5,a\n6,c\n")
    reader = TaggedFramesReader([path], window=2, labels={"a": "A", "b": "B", "c": "C"})
    assert [labels for _, labels in reader.items()] == [["A", "B"], ["A", "C"]]
    assert reader.dropped == {"window with a missing value": 1}
    assert [step["line"] for row in reader.inputs() for step in row.steps] == ["2", "3", "5", "6", "7", "8"]
    with pytest.raises(UserError, match="unknown label 'c'"):
        list(TaggedFramesReader([path], labels={"a": "A", "b": "B"}).items())
    with pytest.raises(UserError, match=r"unknown column 'wat'.*'what'"):
        list(TaggedFramesReader([path], label="wat").items())
    with pytest.raises(UserError, match="column 'what': 'a' isn't a number"):
        list(TaggedFramesReader([path], columns=("x", "what")).items())


def test_series_that_come_in_turn_are_refused_but_not_the_hours_of_days(tmp_path) -> None:
    def rows(*names):
        return "day,of,value\n" + "".join(f"2020-01-{day:02},{name},{day}\n" for day in range(1, 9) for name in names)

    for names, separate in ((("north", "south"), True), (("06:00", "18:00"), False), (("1", "2"), False)):
        reader = SeriesWindowsReader([write(tmp_path, rows(*names))], length=2, columns="value")
        if separate:
            with pytest.raises(UserError, match="line 3: contains several series: times in day repeat, and of"):
                list(reader.items())
        else:
            assert len(list(reader.items())) == 14
            assert "warning: day: 8 repeated dates" in " ".join(reader.notes)


def test_lines_out_of_the_order_of_time_are_refused_and_uneven_steps_told(tmp_path) -> None:
    days = [*(f"2020-01-{day:02}" for day in (1, 2, 3, 4, 4, 5, 9, 10, 11, 12))]
    path = tmp_path / "series.csv"
    path.write_text("day,value\n" + "".join(f"{day},{n}\n" for n, day in enumerate(days)))
    reader = SeriesWindowsReader([path], length=2, columns="value")
    assert len(list(reader.items())) == 8
    assert "warning: day: 1 repeated dates, the first in line 6" in reader.notes[1]
    assert "1 steps longer than the usual 1 day, 0:00:00, the first in line 8" in reader.notes[1]
    path.write_text("shop,day,value\n" + "".join(f"{shop},{day},{n}\n" for shop in "ab" for n, day in enumerate(days)))
    with pytest.raises(UserError, match=r"line 12: day goes back in time") as caught:
        list(SeriesWindowsReader([path], length=2, columns="value").items())
    assert "a file for each" in str(caught.value)
