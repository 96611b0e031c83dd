"""Recipes: what is read, what is refused, and how it is said."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.datasets.base import TextFilesReader
from components.datasets.files.codings import Coding
from components.datasets.series.windows import SeriesWindowsReader
from components.errors import UserError
from components.idle import idle
from components.options import options_of
from components.paths import user_path
from components.recipe import Recipe, apply_override, load_yaml, read_recipe
from components.runs.places import RECIPES, recipe_names, recipe_path
from components.yaml_text import parse_yaml

GOOD = """
seed: 3
data: {dataset: names}
encoding: {kind: characters}
task: {kind: language_model}
model: {kind: gru, hidden_size: 16}
training: {learning_rate: 2e-3, steps: 10}
"""


@pytest.fixture
def recipe_file(tmp_path: Path):
    def write(text: str, name: str = "mine") -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        read_recipe(path, overrides)
    return str(caught.value)


@pytest.mark.slow
def test_every_recipe_of_ours_is_valid_and_says_what_to_expect() -> None:
    names = recipe_names()
    assert len(names) >= 3
    for name in names:
        recipe = read_recipe(RECIPES / f"{name}.yaml")
        assert recipe.name == name
        assert idle(recipe.as_dict()) == []
        first = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
        assert first.startswith(f"# {name}: "), first


@pytest.mark.slow
def test_a_setting_in_the_wrong_section_is_told_its_place(recipe_file) -> None:
    said = refused(recipe_file(GOOD), "encoding.melody_track=2")
    assert "encoding.melody_track: unknown setting; did you mean 'data.melody_track'?" in said
    assert "did you mean" not in refused(recipe_file(GOOD), "data.hidden_size=3")
    assert "did you mean 'encoding.steps_per_beat'?" in refused(recipe_file(GOOD), "data.steps_per_beat=4")


@pytest.mark.slow
def test_lengths_of_windows_are_refused_where_whole_examples_are_read(recipe_file) -> None:
    pairs = recipe_file(GOOD.replace("dataset: names", "path: x.csv, reader: table"), "pairs")
    task = [
        "task.kind=classification",
        'encoding={"kind":"pair","input":{"kind":"characters"},"target":{"kind":"labels"}}',
    ]
    said = refused(pairs, *task, "training.tbptt_length=32", "evaluation.window=64")
    assert "2 problems" in said
    assert "training.tbptt_length: has no effect, since classification reads whole examples" in said
    assert "--set evaluation.window=null removes it" in said
    whole = read_recipe(pairs, task)
    assert Recipe.from_dict("again", whole.as_dict()).digest == whole.digest, "a recipe that is written out in full"
    frames = ["task.kind=frame_model", "encoding={kind: pianoroll}", "data={path: x.json, reader: rolls}"]
    assert "frame_model reads whole examples" in refused(recipe_file(GOOD), *frames, "training.tbptt_length=32")
    assert read_recipe(recipe_file(GOOD), ["training.tbptt_length=32"]).training["tbptt_length"] == 32


def test_defaults_are_filled_in_and_part_of_the_digest(recipe_file) -> None:
    recipe = read_recipe(recipe_file(GOOD))
    assert recipe.model == {
        **recipe.model, "kind": "gru", "hidden_size": 16, "num_layers": 1, "input": "embedding", "backend": "auto"
    }  # fmt: skip
    assert recipe.training["learning_rate"] == 0.002
    assert recipe.data["split"] == (0.8, 0.1, 0.1) or len(recipe.data["split"]) == 3
    spelled_out = read_recipe(recipe_file(GOOD), ["model.num_layers=1"])
    assert spelled_out.digest == recipe.digest
    assert read_recipe(recipe_file(GOOD), ["model.num_layers=2"]).digest != recipe.digest
    assert read_recipe(recipe_file(GOOD, "other")).digest == recipe.digest


def test_a_recipe_survives_being_written_down(recipe_file) -> None:
    import json

    recipe = read_recipe(recipe_file(GOOD))
    assert Recipe.from_dict("mine", json.loads(json.dumps(recipe.as_dict()))) == recipe


def test_all_problems_come_in_one_message_with_the_nearest_names(recipe_file) -> None:
    message = refused(
        recipe_file("""
seed: -1
data: {dataset: nmaes}
encoding: {kind: charcters}
task: {kind: language_model}
model: {kind: lstm, hiden_size: 256, num_layers: 0, dropout: much}
training: {optimizer: adamm, steps: 10.5}
modle: {}
accept: {val/nats_per_char: "less"}
""")
    )
    for part in (
        "seed: must be a whole number",
        "names",
        "encoding.kind: unknown encoding 'charcters'; did you mean 'characters'?",
        "model.hiden_size: unknown setting; did you mean 'hidden_size'?",
        "model.num_layers: input should be greater than 0, not 0",
        "model.dropout: input should be a valid number, not 'much'",
        "training.optimizer: input should be 'adamw', 'adam' or 'sgd', not 'adamm'; did you mean 'adam'?",
        "training.steps: input should be a valid integer",
        "modle: unknown section; did you mean 'model'?",
        "accept.val/nats_per_char",
        "mine.yaml",
        "10 problems",
    ):
        assert part in message, f"{part!r} isn't in:\n{message}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n- b", "a mapping of sections"),
        ("seed: 1\nseed: 2", "'seed' is used twice"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("seed: 020", "020 would be read as 16"),
        ("seed: 1:30", "1:30 would be read as 90"),
        ("training: {seconds: 1:30.5}", "1:30.5 would be read as 90.5"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a: [1", "line 1, column 6"),
        ("1: 2", "isn't text"),
        ("model: 3\n" + GOOD.replace("model:", "training_:"), "model: must be a mapping"),
        ("training: []", "training: must be a mapping of settings, not []"),
        ("generation: false", "generation: must be a mapping"),
        ("accept: []", "accept: must map a metric"),
    ],
)
def test_bad_yaml_is_refused_with_its_place(recipe_file, text, said) -> None:
    assert said in refused(recipe_file(text))


def test_a_list_is_called_so(recipe_file) -> None:
    said = refused(recipe_file(GOOD), "training.freeze=embedding")
    assert "training.freeze: input should be a list, such as [a, b], not 'embedding'" in said


def test_of_two_values_of_a_setting_the_last_applies(recipe_file) -> None:
    assert read_recipe(recipe_file(GOOD), ["training.steps=5", "training.steps=6"]).training["steps"] == 6


def test_an_empty_path_is_refused() -> None:
    with pytest.raises(UserError, match="the path is empty"):
        user_path(" ", where="data.path")


def test_a_word_that_is_nearly_a_choice_among_numbers_gives_one_line(recipe_file) -> None:
    said = refused(recipe_file(GOOD), "training.averaging=trigered")
    assert "did you mean 'triggered'?" in said
    assert said.count("training.averaging") == 1
    assert refused(recipe_file(GOOD), "training.averaging=[1]").count("training.averaging") == 2  # either may be meant


@pytest.mark.parametrize(
    ("setting", "way"),
    [("model.tie_weights=true", "model.softmax: sampled"), ("model.input=one_hot", "model.input: embedding")],
)
def test_sparse_rows_without_a_table_are_refused_before_a_model_is_built(recipe_file, setting, way) -> None:
    said = refused(recipe_file(GOOD), "training.sparse_rows=true", setting)
    assert "training.sparse_rows: each update of this model uses all rows" in said
    assert way in said
    read_recipe(recipe_file(GOOD), ["training.sparse_rows=true", setting, "model.softmax=sampled"])
    read_recipe(recipe_file(GOOD), ["training.sparse_rows=true"])


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("encoding={kind: spelled}", "encoding.kind: gives several ids a step"),
        ("encoding={kind: tokens, stem: 3}", "encoding.stem: gives several ids a step"),
        ("encoding={kind: conditioned, encoding: {kind: tokens, stem: 3}}", "encoding.encoding.stem: gives several"),
        ("encoding={kind: performance, transpose: [3, -3]}", "encoding.transpose: must go from a lower to a higher"),
    ],
)
def test_encodings_that_no_task_can_read_are_refused(recipe_file, setting, said) -> None:
    assert said in refused(recipe_file(GOOD), setting)


def test_a_long_wrong_value_is_cut_short_in_the_message(recipe_file) -> None:
    said = refused(recipe_file(GOOD), f"training.steps={'ab' * 5000}")
    assert "not 'abab" in said
    assert "…" in said
    assert len(said) < 600


def test_files_that_cannot_be_recipes(tmp_path: Path, recipe_file) -> None:
    assert "No such file" in refused(tmp_path / "none.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in refused(binary)
    assert "larger than" in refused(recipe_file("a: " + "x" * (1 << 20)))
    assert "use only a–z" in refused(recipe_file(GOOD, "no spaces please"))


def test_overrides(recipe_file) -> None:
    path = recipe_file(GOOD)
    recipe = read_recipe(path, ["training.learning_rate=1e-4", "model.kind=lstm", "model.forget_bias=0.5"])
    assert recipe.training["learning_rate"] == 1e-4
    assert recipe.model["forget_bias"] == 0.5
    assert "isn't KEY=VALUE" in refused(path, "training.steps")
    assert "training.setps: unknown setting; did you mean 'steps'?" in refused(path, "training.setps=5")
    assert "a value, not a section" in refused(path, "seed.x=5")
    # an option of the LSTM is none of the GRU's
    assert "model.forget_bias: unknown setting" in refused(path, "model.forget_bias=0.5")


@pytest.mark.parametrize("split", ["[0.5, 0.5, 0.5]", "[1.0, 0.5, -0.5]", "[0.9, 0.1]", "0.9"])
def test_a_split_must_add_up(recipe_file, split) -> None:
    assert "data.split" in refused(recipe_file(GOOD), f"data.split={split}")


def test_an_unknown_recipe_name_gives_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean 'chorales'"):
        recipe_path("choral")
    for name in ("../../etc/passwd", "", "a/b"):
        with pytest.raises(UserError):
            recipe_path(name)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


@pytest.mark.slow
@given(anything)
def test_any_value_anywhere_is_a_message_not_a_crash(value) -> None:
    base = {"data": {"dataset": "names"}, "encoding": {"kind": "characters"}, "task": {"kind": "language_model"},
            "model": {"kind": "gru"}}  # fmt: skip
    for key in ("seed", "data", "model", "training", "accept", "encoding"):
        try:
            Recipe.from_dict("mine", {**base, key: value})
        except UserError as error:
            assert "problem" in str(error)  # noqa: PT017 - a valid value is fine too
    for key, name in (("model", "hidden_size"), ("data", "split"), ("training", "steps"), ("generation", "prompt")):
        try:
            Recipe.from_dict("mine", {**base, key: {**base.get(key, {}), name: value}})
        except UserError as error:
            assert name in str(error)  # noqa: PT017


@pytest.mark.slow
@given(st.text(max_size=60))
def test_any_text_as_yaml_or_override_is_a_message_not_a_crash(text) -> None:
    for attempt in (lambda: parse_yaml(text, where="here"), lambda: apply_override({}, text)):
        try:
            attempt()
        except UserError as error:
            assert str(error)  # noqa: PT017


def test_scientific_notation_without_a_point_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: 2e-3\nb: 1E5\nc: '2e-3'\nd: 12\ne: 0.5\nf: e5\n")
    assert load_yaml(path) == {"a": 0.002, "b": 1e5, "c": "2e-3", "d": 12, "e": 0.5, "f": "e5"}


@pytest.mark.slow
def test_null_takes_a_setting_of_the_recipe_away(tmp_path) -> None:
    folder = tmp_path / "mood"
    folder.mkdir()
    taken = ["data.header=null", "data.labels=null", "encoding.input.stem=null", "model.dropout=null", "accept=null"]
    overrides = [f"data.path={folder}", "data.reader=labelled-lines", *taken]
    recipe = read_recipe(recipe_path("sentiment"), overrides)
    assert "header" not in recipe.data
    assert recipe.data["labels"] is None
    assert recipe.encoding["input"]["stem"] == 0
    assert recipe.model["dropout"] == 0
    assert recipe.accept == {}
    assert read_recipe(recipe_path("sentiment"), ["training.clip_norm=null"]).training["clip_norm"] is None, "a value"


@pytest.mark.parametrize("dataset", ["chorales", "fiddle-tunes"])
def test_a_path_beside_a_reader_of_a_package_is_refused(recipe_file, dataset) -> None:
    """Its corpus was read, and the model named after the files that weren't."""
    data = f"{{dataset: {dataset}, path: mine}}"
    assert "reads an installed package; for your own files use --set data.reader=music" in refused(
        recipe_file(GOOD.replace("{dataset: names}", data))
    )


@pytest.mark.slow
def test_a_setting_of_another_reader_names_the_override_that_takes_it_away() -> None:
    with pytest.raises(UserError, match=r"data\.header: .*\(table\); --set data\.header=null removes it"):
        read_recipe(recipe_path("sentiment"), ["data.path=x", "data.reader=labelled-lines"])
    with pytest.raises(UserError, match=r"data\.encoding: unknown setting; did you mean 'data\.coding'"):
        read_recipe(recipe_path("names"), ["data.encoding=latin-1"])


def test_a_relative_path_counts_from_where_the_command_is_given(tmp_path, monkeypatch) -> None:
    from components.datasets.sources import path_readers

    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine.txt").write_text("text")
    (tmp_path / "elsewhere" / "r.yaml").write_text(GOOD.replace("dataset: names", "path: mine.txt"))
    monkeypatch.chdir(tmp_path / "here")
    recipe = read_recipe(tmp_path / "elsewhere" / "r.yaml")
    assert recipe.data["path"] == str(tmp_path / "here" / "mine.txt"), "not from the recipe's folder"
    assert path_readers(recipe.data, Path("/nowhere"), tmp_path)[1][None].files == [tmp_path / "here" / "mine.txt"]
    wrong = read_recipe(tmp_path / "elsewhere" / "r.yaml", ["data.path=nosuch.txt"])
    with pytest.raises(UserError, match=r"here/nosuch\.txt: no such file or folder\n.*where the command is run"):
        path_readers(wrong.data, Path("/nowhere"), tmp_path)


def test_settings_of_a_base_class_are_inherited_only_where_they_are_passed_on() -> None:
    class Base:
        def __init__(self, files: list[str], /, *, size: int = 1, seed: int = 0) -> None: ...

    class Child(Base):
        def __init__(self, files: list[str], /, *, size: int = 2, width: int, **settings: int) -> None: ...

    class Closed(Base):
        def __init__(self, files: list[str], /, *, width: int = 3, **options: int) -> None: ...

    assert {name: default for name, (_, default) in options_of(Child).items()} == {"size": 2, "width": ..., "seed": 0}
    assert list(options_of(Closed)) == ["width"]


def test_settings_of_dataclasses_are_their_fields_and_those_of_their_bases() -> None:
    found = {name: default for name, (_, default) in options_of(SeriesWindowsReader).items()}
    own, base = list(inspect.get_annotations(SeriesWindowsReader)), list(inspect.get_annotations(TextFilesReader))
    assert found["length"] is ..., (
        "a field without a default is required, also where a base class has a method so called"
    )
    assert list(found)[: len(own)] == own, "its own come first"
    assert set(base) & set(found) == {"coding", "errors", "max_bytes"}, "class attributes aren't settings"
    assert options_of(SeriesWindowsReader)["coding"][0] is Coding, "of the base class's module"
