"""What is asked for: one of our recipes on a person's own data, names, and the commands that are printed."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from components.errors import UserError
from components.runs.asked import ask, typed, words_of


def _needs(name: str) -> None:
    """Skips where no file can be called so."""
    try:
        name.encode(sys.getfilesystemencoding())
    except UnicodeEncodeError:
        pytest.skip("needs file names in UTF-8: export LC_ALL=C.UTF-8")


@pytest.fixture
def tunes(tmp_path: Path) -> Path:
    folder = tmp_path / "Mäx' Tunes (2)"
    _needs(folder.name)
    folder.mkdir()
    return folder


@pytest.mark.slow
def test_our_recipe_on_own_data_leaves_its_datas_settings_behind(tunes: Path) -> None:
    asked = ask("lead-sheets", [f"data.path={tunes}", "data.reader=music"])
    recipe = asked.recipe()
    assert recipe.accept == {}, "a bound for the Nottingham tunes says nothing of these"
    assert recipe.name == "lead-sheets-m-x-tunes-2"
    assert recipe.data["path"] == str(tunes)
    assert recipe.model["hidden_size"] == 256, "the model stays the recipe's"
    assert any("accept" in note for note in asked.notes)


def test_a_recipe_that_trains_on_val_evaluates_on_the_val_of_own_data(tmp_path: Path) -> None:
    mine = ask("entities", [f"data.path={tmp_path}/words.conll"])
    assert not mine.recipe().data["join_val"]
    assert any("join_val" in note for note in mine.notes)
    assert ask("entities").recipe().data["join_val"]
    asked = ask("entities", [f"data.path={tmp_path}/words.conll", "data.join_val=true"])
    assert asked.recipe().data["join_val"]
    assert not any("join_val" in note for note in asked.notes)


@pytest.mark.slow
def test_the_split_of_a_card_is_that_of_its_files(tmp_path: Path) -> None:
    mine = ask("activity", [f"data.path={tmp_path}/rows.csv", "data.reader=series-rows"])
    assert mine.recipe().data["split"] == (0.8, 0.1, 0.1)
    assert any("split" in note for note in mine.notes)
    assert ask("activity").recipe().data["split"] != (0.8, 0.1, 0.1), "the card's, on its own files"
    chosen = ask("activity", [f"data.path={tmp_path}", "data.reader=series-rows", "data.split=[0.6,0.2,0.2]"])
    assert chosen.recipe().data["split"] == (0.6, 0.2, 0.2)
    assert not any("split" in note for note in chosen.notes)


@pytest.mark.slow
def test_what_is_asked_for_by_hand_stays(tmp_path: Path) -> None:
    asked = ask("names", [f"data.path={tmp_path}/a.txt", "accept={test/nats_per_char: '< 9'}", "generation.prompt=Zo"])
    assert asked.recipe().accept == {"test/nats_per_char": "< 9"}
    assert not asked.gives_way("generation.prompt")
    assert ask("names", [f"data.path={tmp_path}/a.txt"]).gives_way("generation.prompt")


def test_a_recipe_on_its_own_data_is_the_recipe(tmp_path: Path) -> None:
    asked = ask("names", ["training.steps=3"])
    assert (asked.name, asked.borrowed, asked.notes) == ("names", False, [])
    assert asked.recipe().accept
    other = ask("names", ["data.dataset=names-by-language", "data.reader=labelled-lines"])
    assert (other.name, other.borrowed) == ("names-names-by-language", True), "another card's data are other data too"


@pytest.mark.parametrize(
    ("path", "name"),
    [("Zürich.2024.txt", "names-z-rich"), ("日本", "names-mine"), ("x" * 90, ("names-" + "x" * 90)[:64])],
)
def test_a_name_is_made_of_any_file(tmp_path: Path, path: str, name: str) -> None:
    _needs(path)
    assert ask("names", [f"data.path={tmp_path / path}"]).name == name


def test_a_name_is_chosen_or_refused(tmp_path: Path) -> None:
    own = tmp_path / "My Recipe.yaml"
    own.write_text(yaml.safe_dump({"data": {"path": "x.txt"}}))
    assert ask(str(own), name="mine").name == "mine"
    with pytest.raises(UserError, match="--name my-recipe"):
        ask(str(own))
    with pytest.raises(UserError, match="--name") as refused:
        ask("names", name="A b")
    with pytest.raises(UserError, match=f"'{'x' * 64}…' isn't a valid name"):
        ask("names", name="x" * 5000)
    assert refused.value.hint == "for example --name a-b"


def test_the_words_ask_for_the_same_from_any_folder(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "own recipe.yaml").write_text(yaml.safe_dump({"data": {"path": "story's.txt"}, "seed": 3}))
    monkeypatch.chdir(tmp_path)
    asked = ask("own recipe.yaml", ["training.steps=4", "model.kind=gru"], "mine")
    monkeypatch.chdir(tmp_path / "work")
    line = typed("run", asked.words)
    words = shlex.split(line)[2:]
    assert ask(words[0], [w for w in words[2::2] if "=" in w], words[-1]).values["data"]["path"] == str(
        tmp_path / "story's.txt"
    )
    assert os.path.isabs(words[0])
    assert words[-2:] == ["--name", "mine"]
    assert typed("run", words_of("a b.yaml", ["data.path=x y"])) == "reprise run 'a b.yaml' --set 'data.path=x y'"
