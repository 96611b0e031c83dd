"""What recipes say of themselves: one line each in `reprise recipes`, and what `reprise recipes NAME` shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from components.errors import UserError
from components.recipe import load_yaml
from components.runs.about import following, read_about
from components.runs.places import RECIPES, recipe_names
from flows.cli import app
from flows.commands.look import recipes

ROOT = Path(__file__).resolve().parents[2]
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def measured() -> dict[str, str]:
    """The rows of the table of results, by recipe."""
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `reprise run ([a-z0-9-]+)( --offline)?` \|(.*)$", text, re.MULTILINE)
    return {name + offline.replace(" --", "-"): row for name, offline, row in rows}


def agrees(figure: str, row: str) -> bool:
    """Is the figure's number one of the row's, as exactly as it is written?"""
    (number,) = NUMBER.findall(figure.replace("F1", ""))
    places = len(number.partition(".")[2])
    found = [float(each.replace(",", "")) for each in NUMBER.findall(row)]
    return any(abs(each - float(number)) <= 0.5 * 10**-places + 1e-9 for each in found)


@pytest.mark.slow
def test_every_recipe_has_a_whole_row_and_its_data(capsys) -> None:
    for name in recipe_names():
        row = read_about(RECIPES / f"{name}.yaml").row
        assert all(row), f"{name}: `# table: in → out | figure | time`"
        assert " → " in row[1]
        dataset = load_yaml(RECIPES / f"{name}.yaml")["data"].get("dataset")
        assert row[2].rstrip("*") == (dataset or "made by Reprise")
    recipes()
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[1:-2]] == recipe_names(), "one line each"
    assert max(map(len, printed[:-2])) <= 100
    assert "chorales* " in printed[1 + recipe_names().index("chorales")], "needs no network"


@pytest.mark.slow
def test_the_figures_are_those_that_were_measured() -> None:
    rows = measured()
    both = [name for name in recipe_names() if name in rows]
    assert len(both) >= 20, "the guard must see the rows"
    wrong = [name for name in both if not agrees(read_about(RECIPES / f"{name}.yaml").figure, rows[name])]
    assert not wrong
    assert not agrees("0.58 nats/token", "0.586 nats/token")
    assert agrees("0.59 nats/token", "0.586 nats/token")


def test_the_readme_has_figures_of_the_results() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| `([a-z0-9-]+)` \|.*\| ([^|(]+)", text, re.MULTILINE)
    assert len(shown) == 6
    assert not [name for name, figure in shown if not agrees(figure, measured()[name])]


def test_one_recipe_is_shown_with_its_comment_and_commands_that_can_be_typed(capsys) -> None:
    recipes("names")
    printed = capsys.readouterr().out
    first = (RECIPES / "names.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert printed.startswith(first.removeprefix("# "))
    assert "table:" not in printed
    for cell in read_about(RECIPES / "names.yaml").row[1:]:
        assert cell in printed
    assert "next: reprise run names; reprise show names; reprise generate names --seed 1" in printed


@pytest.mark.slow
def test_what_follows_can_be_typed() -> None:
    uses = {name: following(name) for name in recipe_names()}
    for lines in uses.values():
        for line in lines:
            app.parse_args(shlex.split(line)[1:], print_error=False, exit_on_error=False)
    assert uses["sentiment"][-1] == "reprise predict sentiment --text TEXT"
    assert uses["dna"][-1] == "reprise predict dna --text TEXT", "bases are typed"
    assert uses["speech"][-1] == "reprise predict speech --file FILE"
    assert uses["jazz"][-1].startswith("reprise generate jazz")


def test_a_recipe_of_ones_own_needs_no_row(tmp_path, capsys, monkeypatch) -> None:
    text = (RECIPES / "dates.yaml").read_text(encoding="utf-8")
    path = written(tmp_path, "# What I try.\n" + "\n".join(line for line in text.splitlines() if line[:1] != "#"))
    assert read_about(path).row == ["mine", "", "made by Reprise*", "", ""]
    monkeypatch.chdir(tmp_path)
    recipes("mine.yaml")
    printed = capsys.readouterr().out
    assert printed.startswith("What I try.\ndata      made by Reprise*\nnext: reprise run mine.yaml;")


@pytest.mark.parametrize("line", ["# table: a → b | 1 nat", "# table: a → b | 1 | 2 s | x", "# table: a | b | c\n" * 2])
def test_a_row_that_cannot_be_read_is_refused(tmp_path, line) -> None:
    path = written(tmp_path, f"# mine: x\n{line}\ndata: {{path: mine.txt}}\n")
    with pytest.raises(UserError, match=r"mine\.yaml.*three cells"):
        read_about(path)


def test_a_file_that_is_no_recipe_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="mapping of sections"):
        read_about(written(tmp_path, "# mine: x\n- a\n"))
    assert read_about(written(tmp_path, "data: 3\n")).data == ""
    assert read_about(written(tmp_path, "data: {path: mine.txt}\n")).data == "your own"
