"""The documents are true: what they name exists, what they show can be typed, what is generated is up to date."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from test_house import DOORS, RANKS, imports

import reprise
from components.errors import UserError
from components.registry import TABLE, names
from components.runs.places import recipe_path
from docs.tools.reference import markdown, python_page
from docs.tools.settings import settings_page
from flows.cli import app

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^ *```[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)[^)]*\)|(?:src|href)=\"([^\"]+)\"")
PATH = re.compile(r"(?:components|flows|tests|docs)/[^\s]*")
ENTRY = re.compile(r"^## (\d{4}-\d\d-\d\d) · \S.*$", re.MULTILINE)
COMMANDS = [name for name in app if not name.startswith("-")]


def documents() -> list[Path]:
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
    assert len(found) >= 5, "the guard must see the documents"
    return found


def commands(text: str, program: str) -> Iterator[list[str]]:
    """The words after `program` wherever it is shown, in a block or in a line, without comments and redirections."""
    lines = [line for block in FENCE.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *SPAN.findall(FENCE.sub("", text))]:
        if program not in line:
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split, part = True, []
        for word in [*lexer, ";"]:
            if set(word) <= set(lexer.punctuation_chars):
                while part and (part[0] == "$" or re.fullmatch(r"\w+=.*", part[0])):
                    part.pop(0)
                if part and part[0].rpartition("/")[2] == program:
                    yield part[1:]
                part = []
            else:
                part.append(word)


def wrong_commands(text: str, where: Path) -> list[str]:
    """Commands that the command line or the Makefile doesn't know. None is run."""
    found = []
    for words in commands(text, "reprise"):
        if any(word.startswith("[") for word in words) or words == ["COMMAND"]:
            continue  # a synopsis
        try:
            _, bound, _ = app.parse_args(words, print_error=False, exit_on_error=False)
            recipe = str(bound.arguments.get("recipe", "NAME"))
            if recipe.islower() and not recipe.endswith(".yaml"):
                check_recipe(recipe, bound.arguments.get("set") or [])
        except Exception as error:  # whatever it is, the reader would meet it too
            found.append(f"{where.name}: reprise {' '.join(words)}: {error}")
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for words in commands(text, "make"):
        unknown = [word for word in words if "=" not in word and word not in targets]
        found += [f"{where.name}: make {word}: no such target" for word in unknown]
    return found


def check_recipe(name: str, overrides: list[str]) -> None:
    from components.recipe import read_recipe

    recipe = read_recipe(recipe_path(name), overrides)
    if recipe.data["dataset"] and recipe.data["path"]:
        raise UserError("ingestion takes a dataset or a path, not both")


def anchors(text: str) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.*?) *$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(text: str, where: Path) -> list[str]:
    """Relative links that lead nowhere."""
    found = []
    for link in (one or other for one, other in LINK.findall(FENCE.sub("", text))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = where.parent / path if path else where
        if path and not target.exists():
            found.append(f"{where.name}: {link} leads nowhere")
        elif anchor and anchor not in anchors(text if not path else target.read_text(encoding="utf-8")):
            found.append(f"{where.name}: {link}: no such heading")
    return found


def missing_files(text: str, where: Path) -> list[str]:
    """Files and folders of the repository that are named in backticks and aren't there; NAME stands for any."""
    found = []
    for span in SPAN.findall(FENCE.sub("", text)):
        path, _, name = span.partition("::")
        if not PATH.fullmatch(path) or "NAME" in path:
            continue
        there = [other for other in ROOT.glob(path.rstrip("/")) if other.is_dir() or not path.endswith("/")]
        if not there:
            found.append(f"{where.name}: {path} isn't there")
        elif name and not re.search(rf"(def|class) {name}\b", there[0].read_text(encoding="utf-8")):
            found.append(f"{where.name}: {path} has no {name}")
    return found


def disordered_log(text: str, where: Path) -> list[str]:
    """Entries that aren't newest first, or don't say what was tried, what was seen and what we do."""
    dates, entries = ENTRY.findall(text), ENTRY.split(text)[2::2]
    found = [] if dates == sorted(dates, reverse=True) else [f"{where.name}: not newest first"]
    if len(dates) != len(re.findall(r"^#+ ", text, re.MULTILINE)) - 1:
        found.append(f"{where.name}: a heading isn't `## DATE · title`")
    for date, entry in zip(dates, entries, strict=True):
        missing = [part for part in ("Tried", "Seen", "We do") if f"**{part}:**" not in entry]
        found += [f"{where.name}: {date} {entry.strip()[:40]!r} lacks {part}" for part in missing]
    return found


WHOLE = "**Tried:** this **Seen:** that **We do:** so"
RULES = [wrong_commands, broken_links, missing_files]


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_what_the_documents_show_is_there(rule) -> None:
    found = [problem for path in documents() for problem in rule(path.read_text(encoding="utf-8"), path)]
    assert not found, "\n".join(found)


def test_the_log_is_newest_first_and_every_entry_is_whole() -> None:
    path = ROOT / "docs" / "log.md"
    text = path.read_text(encoding="utf-8")
    assert len(ENTRY.findall(text)) >= 10
    assert not disordered_log(text, path)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (wrong_commands, "type `reprise rnu chorales`"),
        (wrong_commands, "```\n$ REPRISE_HOME=x .venv/bin/reprise run chorales --sett a=b  # a comment\n```"),
        (wrong_commands, "```\nmake lint && reprise generate chorales \\\n  --count many\n```"),
        (wrong_commands, "| `reprise run choral` |"),
        (wrong_commands, "`reprise show chorales --set model.kindd=gru`"),
        (wrong_commands, "`reprise run names --set data.pth=my.txt`"),
        (wrong_commands, "`make tests`"),
        (broken_links, "see [the log](docs/logg.md)"),
        (broken_links, "see [the log](docs/log.md#no-such-entry)"),
        (broken_links, "see [below](#nothing)"),
        (broken_links, '<img src="docs/none.png">'),
        (missing_files, "in `components/layers/transformer.py`"),
        (missing_files, "in `tests/test_docs.py::test_that_is_not_there`"),
        (missing_files, "all of `docs/*.rst`"),
        (missing_files, "in the folder `flows/cli.py/`"),
        (disordered_log, f"# Log\n## 2026-01-01 · a\n{WHOLE}\n## 2026-01-02 · b\n{WHOLE}"),
        (disordered_log, "# Log\n## 2026-01-01 · a\n**Tried:** it **We do:** nothing"),
        (disordered_log, f"# Log\n## yesterday\n{WHOLE}"),
    ],
)
def test_each_rule_bites(rule, text: str) -> None:
    assert rule(text, ROOT / "CONTRIBUTING.md")


def test_what_is_right_passes() -> None:
    text = (
        "# A heading\n\n[up](#a-heading), [log](docs/log.md), [out](https://example.org/x)\n"
        "`components/layers/`, `tests/test_docs.py::test_each_rule_bites`, `flows/recipes/NAME.yaml`, `docs/*.md`\n"
        "```console\nreprise run [OPTIONS] RECIPE\n"
        "$ make PYTHON=python3 test; reprise generate chorales@3 --top-p 0.9 > x.txt\n```\n"
        "`reprise run mine.yaml --set training.steps=5` or `reprise run NAME`\n"
    )
    assert not [problem for rule in RULES for problem in rule(text, ROOT / "CONTRIBUTING.md")]
    assert len(list(commands(text, "reprise"))) == 4


@pytest.mark.slow
def test_the_reference_of_the_command_line_is_up_to_date() -> None:
    assert len(COMMANDS) >= 10
    kept = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert kept == markdown(), "`make docs` writes it anew"
    assert all(f"## reprise {name}\n" in kept for name in COMMANDS)


def test_the_reference_of_settings_is_up_to_date_and_every_setting_has_its_meaning() -> None:
    kept = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert kept == settings_page(), "`make docs` writes it anew"
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.*) \|$", kept, re.MULTILINE)
    assert len(rows) >= 300
    assert not [name for name, *cells in rows if not all(cell.strip() for cell in cells)], "its docstring names it"
    headings = [f"### {table}: {name}\n" for table in TABLE for name in names(table) if table != "cell"]
    assert not [heading for heading in headings if heading not in kept]
    assert "| `top_p` | number, above 0 and up to 1 | `1.0` |" in kept


def test_the_reference_of_python_is_up_to_date() -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert page == python_page(page), "`make docs` writes it anew"
    for name in (*reprise.__all__, "generate", "predict"):
        assert name in page


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example_of_itself(name: str) -> None:
    _, _, example = app[name].help.partition("Example:")
    assert f"`reprise {name}" in example


def cells(text: str, heading: str) -> dict[str, str]:
    """First and second cell of each row of the table under a heading."""
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in section.splitlines() if line.startswith("|")]
    return dict(rows[2:])


def test_the_tables_of_directions_and_doors_are_those_of_the_rules() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    doors = {
        library: re.findall(r"`([^`]+)`", where)
        for library, where in cells(text, "Where libraries are imported").items()
    }
    assert doors == DOORS
    ranks = {name: int(rank) for rank, names in cells(text, "Directions").items() for name in names.split(", ")}
    assert ranks == RANKS


def test_the_version_is_the_same_wherever_it_stands() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    released = re.findall(r"^## (\S+) · (\S+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert released[0] == (project["version"], str(cited["date-released"]))
    assert cited["version"] == project["version"]
    assert cited["license"] == project["license"]


HOP = re.compile(r"^\| (\d+) \| `([^`]+)` \| `([^`]+)` \|", re.MULTILINE)


def wrong_hops(text: str) -> list[str]:
    """Hops of a way that no import makes, or that aren't counted from 1."""
    found = []
    for number, (counted, source, target) in enumerate(HOP.findall(text), 1):
        module = target.removesuffix(".py").replace("/", ".")
        known = imports((ROOT / source).read_text(encoding="utf-8"))
        if int(counted) != number or not any(name == module or name.rpartition(".")[0] == module for name in known):
            found.append(f"{counted}: {source} → {target}")
    return found


@pytest.mark.parametrize(("way", "most"), [("`reprise run chorales`", 20), ("`POST /generate`", 12)])
def test_the_ways_through_the_code_are_there(way: str, most: int) -> None:
    section = (ROOT / "docs" / "design.md").read_text(encoding="utf-8").split(f"## The way of {way}\n")[1]
    section = section.split("\n## ")[0]
    assert 10 <= len(HOP.findall(section)) <= most
    assert not wrong_hops(section)
    wrong = (
        "| 1 | `flows/cli.py` | `components/bundle.py` | no |\n| 3 | `flows/cli.py` | `components/console.py` | no |"
    )
    assert len(wrong_hops(wrong)) == 2


def test_the_tables_of_speed_are_those_of_the_measured_results() -> None:
    from benchmarks.table import decoding_table, gpu_table, table

    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    gpu = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    kernels = [(table(instructions), results) for instructions in ("avx512", "avx2")]
    for shown, told in (*kernels, (decoding_table(), results), (gpu_table(), gpu)):
        assert shown.count("\n") >= 4
        assert shown in told, "python -m benchmarks.table prints it"


def test_what_was_measured_is_what_the_documents_say() -> None:
    from benchmarks.torture.__main__ import RESULTS, table

    told = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    folder = ROOT / "benchmarks" / "results"
    torture = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert table(torture) in (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8"), "--table prints it"
    serving, machinery = (json.loads((folder / f"{name}.json").read_text()) for name in ("serving", "machinery"))
    told = " ".join(told.split())
    assert f"{serving['ratio_median']:.1f} times as fast as one at a time" in told
    assert f"within {serving['milliseconds']['together']['p99'] / 1000:.2f} s" in told
    for name, words in (("warm", "s to a run"), ("cold", "s to the first run"), ("first", "s once per machine")):
        assert f"{machinery['figures'][f'{name}_seconds']:.1f} {words}" in told
