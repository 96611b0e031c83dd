"""What messages tell one to type can be typed: every `reprise …` in the sources, and those that are put together."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cyclopts import ValidationError

from components.errors import UserError
from components.runs.asked import ask
from components.runs.places import recipe_path
from components.runs.plan import make_plan
from flows.cli import app
from flows.commands.look import validate

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [name for name in app if not name.startswith("-")]
# in backticks, or to the end of the text, a remark in brackets or behind a sign
HINT = re.compile(rf"`(reprise (?:{'|'.join(COMMANDS)})\b[^`]*)`|\b(reprise (?:{'|'.join(COMMANDS)})\b[^`();,:…]*)")


def texts(source: str) -> Iterator[str]:
    """The strings of a source that aren't docstrings; what an f-string puts in is one word."""
    tree = ast.parse(source)
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    bodies = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, bodies) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "VALUE" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs | inside:
            yield node.value


def hints(source: str) -> list[str]:
    return [(one or other).strip() for text in texts(source) for one, other in HINT.findall(text)]


def wrong(hint: str) -> str:
    """Why the command line doesn't take it; "" when it does. A command's bare name is talked about, not typed."""
    if len(hint.split()) == 2:
        return ""
    try:
        app.parse_args(shlex.split(hint)[1:], print_error=False, exit_on_error=False)
    except Exception as error:  # whatever it is, who types it meets it too
        return f"{hint}: {error}"
    return ""


SOURCES = sorted([*ROOT.glob("components/**/*.py"), *ROOT.glob("flows/**/*.py")])


@pytest.mark.slow
def test_every_command_that_a_message_names_can_be_typed() -> None:
    found = {hint: path for path in SOURCES for hint in hints(path.read_text(encoding="utf-8"))}
    assert len(found) > 25, "the guard must see the hints"
    assert not [f"{path.relative_to(ROOT)}: {problem}" for hint, path in found.items() if (problem := wrong(hint))]


def test_the_guard_sees_a_wrong_one() -> None:
    source = 'def f():\n    """`reprise nosuch`"""\n    raise E(hint=f"see `reprise show {name} --nosuch`")\n'
    assert hints(source) == ["reprise show VALUE --nosuch"]
    assert "nosuch" in wrong(hints(source)[0])
    assert hints('x = "say it: reprise models NAME    (its versions)"') == ["reprise models NAME"]
    assert not wrong("reprise models NAME")


@pytest.fixture
def own(tmp_path: Path, monkeypatch) -> Path:
    """A recipe of one's own in a folder with a space, seen from elsewhere."""
    home, elsewhere = tmp_path / "my work", tmp_path / "elsewhere"
    home.mkdir(), elsewhere.mkdir()
    (home / "rows.csv").write_text("t,l\n" + "".join(f"text {n},{'ab'[n % 2]}\n" for n in range(40)))
    values = {
        "data": {"path": str(home / "rows.csv"), "reader": "table"},
        "encoding": {"kind": "pair", "input": {"kind": "characters"}, "target": {"kind": "labels"}},
        "task": {"kind": "classification"},
        "model": {"kind": "gru", "hidden_size": 4},
        "training": {"steps": 2},
    }
    (home / "tiny.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(elsewhere)
    return home / "tiny.yaml"


def typed_recipe(line: str) -> str:
    """The recipe that a printed line runs, resolved as the command would."""
    command, bound, _ = app.parse_args(shlex.split(line)[1:], print_error=False, exit_on_error=False)
    given = bound.arguments
    ask(given["recipe"], given.get("set"), given.get("name")).recipe()
    if command.__name__ == "compare":
        make_plan(given["recipe"], given["vary"], 1, overrides=given.get("set") or [], name=given.get("name"))
    return str(given["recipe"])


@pytest.mark.parametrize("command", ["run", "compare", "tune"])
def test_a_number_of_threads_below_zero_is_refused_before_anything_starts(command: str) -> None:
    with pytest.raises(ValidationError, match="Must be >= 0"):
        app.parse_args([command, "names", "--threads", "-5"], print_error=False, exit_on_error=False)


@pytest.mark.slow
def test_validate_says_what_to_type_with_what_was_set(own: Path, capsys) -> None:
    settings = ["training.steps=3", "model.pooling=max", "training.warmup_steps=4"]
    validate("../my work/tiny.yaml", set=settings, name="mine")
    said, _, line = capsys.readouterr().out.partition("next: ")
    assert "warning training.warmup_steps: 4 of 3 updates" in said
    line = line.strip()
    assert typed_recipe(line) == "../my work/tiny.yaml"
    words = shlex.split(line)
    assert words[3:] == [*(word for setting in settings for word in ("--set", setting)), "--name", "mine"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "vary"),
    [([], "model.kind=rnn,gru,lstm"), (["model.reset_after=false"], "model.hidden_size=64,128,256")],
)
def test_what_follows_a_run_goes_with_its_model(own: Path, overrides: list[str], vary: str) -> None:
    from components.runs.outcome import Outcome
    from components.runs.summary import following

    asked = ask("../my work/tiny.yaml", overrides)
    metrics = {"val/accuracy": 0.5, "test/accuracy": 0.5}
    outcome = Outcome(
        "0" * 32, "run", "http://x", metrics, None, [], [], "reprise predict mine --text TEXT", asked.words
    )
    use, line = following(outcome)
    assert use == "reprise predict mine --text TEXT"
    assert not wrong(use)
    assert shlex.split(line)[-2:] == ["--vary", vary]
    assert typed_recipe(line) == str(own), "from whichever folder"
    more = "reprise generate mine@2 --seed 1"
    (written,) = following(Outcome("0" * 32, "run", "u", {}, None, ["a.txt"], [], more, asked.words))
    assert written == more
    assert not wrong(written)
    assert following(Outcome("0" * 32, "run", "u", {"test/nats": 1.0}, None, [], [], more, asked.words)) == []


@pytest.mark.slow
def test_messages_name_the_recipe_as_it_was_given(own: Path) -> None:
    with pytest.raises(UserError) as refused:
        make_plan("../my work/tiny.yaml", ["model.kind=gru,gruu"], 1)
    (hint,) = HINT.findall(refused.value.hint)
    assert shlex.split(hint[0]) == ["reprise", "show", "../my work/tiny.yaml"]
    typed_recipe(hint[0])


def test_a_file_beside_is_named_as_it_can_be_typed(own: Path, monkeypatch) -> None:
    monkeypatch.chdir(own.parent)
    with pytest.raises(UserError) as refused:
        recipe_path("tiny")
    assert refused.value.hint.endswith("tiny.yaml")
    ask(refused.value.hint.split()[-1]).recipe()


@pytest.mark.slow
def test_the_best_settings_of_a_search_run_from_anywhere(own: Path) -> None:
    from components.evaluation.tuning import Tried
    from components.runs.search import _command
    from components.runs.space import make_search

    search = make_search("../my work/tiny.yaml", ["model.hidden_size=4,8"], ["training.steps=3"], name="mine")
    line = _command(search, Tried(0, {"model.hidden_size": 8}, "complete", 0.5))
    assert typed_recipe(line) == str(own)
    assert "training.steps=3" in line
    assert line.endswith("model.hidden_size=8")
