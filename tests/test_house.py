"""The rules of the house: directions, doors, sizes. Each rule is shown to bite."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.registry import TABLE, names, resolve

ROOT = Path(__file__).resolve().parents[1]
CEILING = 400

# A module may import from its own rank's name and from lower ranks; nothing looks up.
RANKS = {
    "errors": 0, "paths": 0, "redaction": 0, "score": 0, "drums": 0, "ink": 0, "harmony": 0, "progressions": 0,
    "registry": 0,
    "provenance": 0, "options": 0, "idle": 0, "yaml_text": 0, "whole_files": 0, "bounds": 0, "console": 0,
    "encodings": 1, "kernels": 1, "render": 1,
    "datasets": 2, "layers": 2,
    "models": 3, "proposals": 3,
    "generation": 4,
    "tasks": 5,
    "bundle": 6,
    "answers": 7,
    "evaluation": 8, "tracking": 8,
    "schema": 9,
    "recipe": 10,
    "export": 11, "training": 11, "use": 11, "recipe_schema": 11,
    "serving": 12,
    "runs": 13,
}  # fmt: skip

DOORS = {
    "prefect": ["flows/"],
    "mlflow": ["components/tracking/"],
    "music21": [
        "components/datasets/music/chorales.py", "components/datasets/music/formats/notation.py",
        "components/render/keys.py",
        "components/render/midi.py",
        "components/render/musicxml.py",
    ],
    "symusic": ["components/encodings/midi_events.py"],
    "miditok": ["components/encodings/midi_events.py"],
    "tokenizers": ["components/encodings/merges.py"],
    "verovio": ["components/render/engrave.py"],
    "pandas": ["components/datasets/", "components/evaluation/", "components/tracking/pyfunc.py"],
    "torch": [
        "components/kernels/", "components/layers/", "components/models/", "components/tasks/", "components/training/",
        "components/generation/", "components/evaluation/", "components/bundle.py", "components/serving/",
        "components/export/", "flows/doctor.py",
    ],
    "triton": [f"components/kernels/triton_{name}.py" for name in ("steps", "lstm", "gru", "scan")],
    "cyclopts": ["flows/commands/"],
    "matplotlib": ["components/render/", "components/evaluation/"],
    "sacrebleu": ["components/tasks/"],
    "jiwer": ["components/tasks/"],
    "av": ["components/datasets/media/video.py"],
    "chardet": ["components/datasets/files/codings.py"],
    "regex": ["components/encodings/"],
    "scipy": ["components/datasets/families.py", "components/datasets/music/roll_files.py"],
    "optuna": ["components/runs/tune.py", "components/runs/watched.py"],
    "onnxruntime": ["components/export/"],
    "onnxscript": ["components/export/"],
    "h5py": ["components/training/hdf5.py"],
    "distributed": ["flows/on_dask.py"],
    "prefect_dask": ["flows/on_dask.py"],
    "ray": ["flows/on_ray.py"],
    "prefect_ray": ["flows/on_ray.py"],
    "fastapi": ["components/serving/"],
    "uvicorn": ["components/serving/"],
}  # fmt: skip
# Packages with rooms: folders of which no two may need each other, and neither a room and what lies beside the rooms.
ROOMS = ("components/datasets/", "components/encodings/")
# On the way to `--help` nothing heavy may be imported at a module's top.
LIGHT = [
    "reprise/__init__.py",
    "reprise/model.py",
    "flows/cli.py",
    *(f"flows/commands/{n}.py" for n in ("base", "new", "train", "look", "use", "models", "operate", "serving")),
    "components/runs/places.py",
    "components/errors.py",
    "components/registry.py",
    "components/options.py",
    "components/idle.py",
    "components/schema.py",
    "components/recipe.py",
    "components/runs/asked.py",
    "components/runs/plan.py",
]
HEAVY = {"torch", "prefect", "mlflow", "music21", "pandas", "matplotlib", "numpy"}


def sources() -> list[Path]:
    files = sorted([*ROOT.glob("reprise/*.py"), *ROOT.glob("components/**/*.py"), *ROOT.glob("flows/**/*.py")])
    assert len(files) >= 50, "the guard must see the house"
    return files


def imports(text: str, *, top_only: bool = False) -> Iterator[str]:
    """Full names of the modules that a source imports."""
    tree = ast.parse(text)
    nodes = tree.body if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def looks_up(path: str, text: str) -> list[str]:
    """Imports against the direction."""
    parts = path.removesuffix(".py").split("/")
    if parts[0] != "components" or parts[1] == "__init__":
        return []
    own, found = parts[1], []
    for name in imports(text):
        other = name.split(".")
        if other[0] == "flows":
            found.append(f"{path} imports {name}: components know no flows")
        elif other[0] == "components" and len(other) > 1 and other[1] != own:
            rank, others = RANKS[own], RANKS[other[1]]
            if others >= rank and (rank, others) != (0, 0):
                found.append(f"{path} imports {name}: {own} must not know {other[1]}")
    return found


def wrong_door(path: str, text: str) -> list[str]:
    """Outside libraries imported where they aren't at home."""
    found = []
    for name in imports(text):
        library = name.split(".")[0]
        if library in DOORS and not any(path.startswith(door) for door in DOORS[library]):
            found.append(f"{path} imports {library}")
    return found


def too_heavy(path: str, text: str) -> list[str]:
    if path not in LIGHT:
        return []
    return [f"{path} imports {n} at its top" for n in imports(text, top_only=True) if n.split(".")[0] in HEAVY]


def too_long(path: str, text: str) -> list[str]:
    lines = text.count("\n")
    return [f"{path} has {lines} lines"] if lines > CEILING else []


def named_by_time(path: str, text: str) -> list[str]:
    """Cases of a test with gzip's time in their names: two workers would collect different tests."""
    decorated = (node.decorator_list for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef))
    calls = (call for each in decorated for one in each for call in ast.walk(one) if isinstance(call, ast.Call))
    packed = (call for call in calls if ast.unparse(call.func) == "gzip.compress")
    return [
        f"{path}: line {call.lineno}: without mtime"
        for call in packed
        if not any(word.arg == "mtime" for word in call.keywords)
    ]


def module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def room(path: str) -> str:
    """The folder of a module in a package with rooms; else the module."""
    return path.rpartition("/")[0].replace("/", ".") if path.startswith(ROOMS) else module(path)


def circles(sources: dict[str, str], of: Callable[[str], str] = module) -> list[tuple[str, ...]]:
    """Modules ({path: source}), or rooms, that import each other, whichever way round, within functions and for types
    too."""
    modules = {module(path): path for path in sources}
    known: dict[str, set[str]] = {of(path): set() for path in sources}
    for path, source in sources.items():
        named = ({name, name.rpartition(".")[0]} & modules.keys() for name in imports(source))
        # what a name belongs to is imported, too; of a package's own module only the module counts
        known[of(path)] |= {of(modules[max(found, key=len)]) for found in named if found} - {of(path)}

    def reached(start: str) -> set[str]:
        found, waiting = set(), [start]
        while waiting:
            new = known[waiting.pop()] - found
            found |= new
            waiting += new
        return found

    seen = {one: reached(one) for one in known}
    return sorted({tuple(sorted(m for m in seen[one] if one in seen[m])) for one in known if one in seen[one]})


RULES = [looks_up, wrong_door, too_heavy, too_long]


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rules(rule) -> None:
    found = [f for path in sources() for f in rule(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.slow
def test_no_case_is_named_by_the_time() -> None:
    files = sorted(ROOT.glob("tests/**/*.py"))
    assert len(files) >= 50
    assert [one for path in files for one in named_by_time(path.name, path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (looks_up, "components/kernels/rnn.py", "from components.layers.base import State"),
        (looks_up, "components/tasks/base.py", "def f():\n    from components.training.trainer import Trainer"),
        (looks_up, "components/errors.py", "import flows.cli"),
        (looks_up, "components/schema.py", "def f():\n    from components.training.trainer import Trainer"),
        (looks_up, "components/runs/train.py", "from flows.reaper import stopped_by_person"),
        (looks_up, "components/errors.py", "from components.bundle import load_bundle"),
        (wrong_door, "components/models/graph.py", "import mlflow"),
        (wrong_door, "components/bundle.py", "def f():\n    from music21 import stream"),
        (wrong_door, "components/encodings/words.py", "import torch.nn"),
        (too_heavy, "flows/cli.py", "import torch"),
        (too_long, "components/layers/base.py", "x = 1\n" * (CEILING + 1)),
        (named_by_time, "tests/test_x.py", "@cases(gzip.compress(b''))\ndef test_it(packed): ..."),
    ],
)
def test_each_rule_bites(rule, path: str, text: str) -> None:
    assert rule(path, text)


@pytest.mark.slow
@pytest.mark.parametrize("of", [module, room], ids=["modules", "rooms"])
def test_none_import_each_other(of) -> None:
    found = circles({path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sources()}, of)
    assert not found, "\n".join(" ↔ ".join(circle) for circle in found)


@pytest.mark.parametrize(
    "back",
    [
        "from components.a import one",
        "import components.a",
        "def f():\n    from components import a",
        "if TYPE_CHECKING:\n    from components.a import One",
    ],
)
def test_a_circle_is_seen(back: str) -> None:
    planted = {
        "components/__init__.py": "",
        "components/a.py": "from components.b import two",
        "components/b.py": "def f():\n    from flows.c import three",
        "flows/c.py": back,
        "flows/d.py": "from components.a import one",
    }
    assert circles(planted) == [("components.a", "components.b", "flows.c")]
    assert not circles(planted | {"flows/c.py": ""})


def test_a_circle_of_rooms_is_seen() -> None:
    planted = {
        "components/datasets/base.py": "",
        "components/datasets/text/plain.py": "from components.datasets.base import one",
        "components/datasets/text/words.py": "def f():\n    from components.datasets.music.notes import two",
        "components/datasets/music/notes.py": "",
        "components/datasets/music/songs.py": "from components.datasets.text.plain import three",
    }
    assert not circles(planted)
    assert circles(planted, room) == [("components.datasets.music", "components.datasets.text")]
    planted |= {"components/datasets/music/songs.py": "from components.datasets.base import one"}
    assert not circles(planted, room)
    planted |= {"components/datasets/base.py": "from components.datasets.music.notes import two"}  # what they share
    assert circles(planted, room) == [("components.datasets", "components.datasets.music")]


def test_every_package_has_its_rank() -> None:
    found = {p.name for p in (ROOT / "components").iterdir() if p.is_dir() and not p.name.startswith("__")}
    found |= {p.stem for p in (ROOT / "components").glob("*.py")} - {"__init__"}
    assert found == set(RANKS)


def test_nothing_is_called_utils() -> None:
    assert not [p for p in sources() if p.stem in ("utils", "util", "common", "helpers", "misc")]


def test_everything_in_the_registry_is_there() -> None:
    seen = 0
    for kind in TABLE:
        for name in names(kind):
            assert resolve(kind, name) is not None
            seen += 1
    assert seen >= 10


def test_the_lock_is_exact_and_names_no_address() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) >= 80
    assert not [line for line in pins if not re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.!-]+( ; .+)?", line)]


def test_the_pins_that_prefect_needs_hold() -> None:
    # facts of November 2026: fastapi 0.151 breaks the first flow, sqlalchemy 2.1 silences schedules
    from importlib.metadata import version

    from packaging.version import Version

    assert Version("0.139") <= Version(version("fastapi")) < Version("0.151")
    assert Version("2") <= Version(version("sqlalchemy")) < Version("2.1")


@pytest.mark.slow
def test_no_tracked_text_names_a_private_path_or_an_index() -> None:
    leak = re.compile(r"--(extra-)?index-url|/simple/?[\"' ]|/tmp/bash|/root/|/home/[a-z]+/")
    found = []
    files = [*sources(), *ROOT.glob("*.*"), *ROOT.glob("docs/*.md"), *ROOT.glob("data/**/*.yaml"), ROOT / "Makefile"]
    for path in files:
        if path.is_file() and leak.search(path.read_text(encoding="utf-8", errors="replace")):
            found.append(path.name)
    assert not found
