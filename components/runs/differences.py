"""Comparing two registered versions: recipe, data, metrics, and samples or predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from components.bundle import Bundle, load_bundle
from components.console import out, table
from components.errors import UserError
from components.render.figures import figure
from components.render.outputs import described
from components.runs.models import find, store
from components.runs.places import places
from components.runs.train import flat
from components.tracking.base import ModelRef
from components.tracking.mlflow_reader import MlflowReader
from components.tracking.promotion import lower_is_better

SAMPLES, SAMPLE_TOKENS = 2, 120
ANSWERS = 10  # differing predictions to show
SAID_ANYWAY = ("name", "digest", "sequences", "examples", "tokens")  # facts about the data to show even if equal
PREDICTIONS = "predictions/test.json"
ASKED, ANSWERED = ("input", "source"), ("predicted", "translation")  # columns of the tables of predictions
WANTED = ("label", "labels", "text", "reference", "target")


def between(one: str, other: str, *, seed: int = 0) -> dict[str, Any]:
    """All differences between two versions, as plain data.

    Raises:
        UserError: a version doesn't exist or can't be loaded, or both are the same.
    """
    refs = find(one), find(other)
    if refs[0] == refs[1]:
        raise UserError(
            f"{one} and {other} are the same version, {refs[0]}", where="diff", hint=f"reprise models {refs[0].name}"
        )
    bundles = tuple(load_bundle(store().fetch(ref)) for ref in refs)
    return {
        "models": [
            {"name": ref.name, "version": ref.version, "alias": ref.alias, "run_id": ref.run_id} for ref in refs
        ],
        "recipe": _recipe(*bundles),
        "data": _data(refs, bundles),
        "metrics": _metrics(*bundles),
        **_said(refs, bundles, seed),
    }


def show(found: Mapping[str, Any]) -> None:
    """Print the differences."""
    heads = []
    for model in found["models"]:
        alias = f" ({model['alias']})" if model["alias"] else ""
        heads.append(f"{model['name']} v{model['version']}{alias}")
    rows = [[key, *map(_shown, pair)] for key, pair in found["recipe"].items()]
    table("recipe", ["setting", *heads], rows or [["(the same)", "", ""]])
    out.print()
    about = {key: pair for key, pair in found["data"].items() if pair[0] != pair[1] or key.endswith(SAID_ANYWAY)}
    table("data", ["", *heads], [[key, *map(_shown, pair)] for key, pair in about.items()])
    out.print()
    rows = [[key, *map(_shown, m["values"]), _shown(m["change"]), m["verdict"]] for key, m in found["metrics"].items()]
    table("figures", ["", *heads, "change", ""], rows)
    for note in found["notes"]:
        out.print(f"note    {note}")
    if samples := found["samples"]:
        out.print()
        table(f"samples, seed {found['seed']}", heads, [[str(text) for text in pair] for pair in samples])
    if answers := found["answers"]:
        out.print()
        title = f"different predictions: {found['different']} of the {found['compared']} test inputs in both tables"
        table(title, ["input", "wanted", *heads], [[_shown(cell) for cell in row] for row in answers])


def _recipe(one: Bundle, other: Bundle) -> dict[str, list[Any]]:
    """{dotted key: [value in one, in the other]} of the settings that differ; None if a recipe doesn't have it."""
    a, b = flat(one.recipe), flat(other.recipe)
    return {key: [a.get(key), b.get(key)] for key in [*a, *(k for k in b if k not in a)] if a.get(key) != b.get(key)}


def _data(refs: tuple[ModelRef, ...], bundles: tuple[Bundle, ...]) -> dict[str, list[Any]]:
    """Name, digest, and the counts of each split as the runs recorded them."""
    reader = MlflowReader(places().settings)
    found: dict[str, list[Any]] = {key: [b.info["data"][key] for b in bundles] for key in ("name", "digest")}
    for place, ref in enumerate(refs):
        try:
            splits = reader.datasets(ref.run_id)
        except UserError:  # the run was deleted
            continue
        for context, facts in splits.items():
            for key, value in flat({k: v for k, v in facts.items() if k != "name"}).items():
                found.setdefault(f"{context} {key}", [None, None])[place] = value
    return found


def _metrics(one: Bundle, other: Bundle) -> dict[str, dict[str, Any]]:
    """{metric: values, change from one to the other, and whether the other is better}."""
    a, b = (bundle.info.get("metrics") or {} for bundle in (one, other))
    found = {}
    for key in [*a, *(key for key in b if key not in a)]:
        values = [a.get(key), b.get(key)]
        change = values[1] - values[0] if None not in values else None
        lower = one.task.lower_is_better if key.partition("/")[2] == one.task.primary else lower_is_better(key)
        verdict = ""
        if change is not None and lower is not None:
            verdict = "same" if change == 0 else "better" if (change < 0) == lower else "worse"
        found[key] = {"values": values, "change": change, "verdict": verdict}
    return found


def _said(refs: tuple[ModelRef, ...], bundles: tuple[Bundle, ...], seed: int) -> dict[str, Any]:
    """Samples with the same seed for models that generate; test inputs with different predictions for others."""
    said: dict[str, Any] = {"seed": seed, "samples": [], "answers": [], "different": 0, "compared": 0, "notes": []}
    if bundles[0].info["data"]["digest"] != bundles[1].info["data"]["digest"]:
        said["notes"].append("trained on different data: metrics on different test data can't be compared")
    if len({bundle.recipe["task"]["kind"] for bundle in bundles}) > 1:
        said["notes"].append("the two versions have different tasks")
    elif bundles[0].task.settings:
        written = []
        for bundle in bundles:
            limit = min(SAMPLE_TOKENS, bundle.recipe["generation"]["max_length"])
            made = bundle.generate({"count": SAMPLES, "max_length": limit}, seed=seed)
            written.append([described(item) for item in made.items])
        said["samples"] = [list(pair) for pair in zip(*written, strict=True)]
    else:
        _compare_answers(refs, said)
    return said


def _compare_answers(refs: tuple[ModelRef, ...], said: dict[str, Any]) -> None:
    reader, tables = MlflowReader(places().settings), []
    for ref in refs:
        try:
            rows = reader.table(ref.run_id, PREDICTIONS)
        except UserError:
            rows = None
        asked, answered, wanted = (
            next((name for name in names if rows and name in rows), None) for names in (ASKED, ANSWERED, WANTED)
        )
        if rows is None or asked is None or answered is None:
            said["notes"].append(f"{ref}: its run has no {PREDICTIONS} with inputs")
            return
        column = rows[wanted] if wanted else [""] * len(rows[asked])
        tables.append({str(a): (w, p) for a, w, p in zip(rows[asked], column, rows[answered], strict=True)})
    a, b = tables
    both = [key for key in a if key in b]
    differ = [key for key in both if a[key][1] != b[key][1]]
    said["compared"], said["different"] = len(both), len(differ)
    said["answers"] = [[key, a[key][0], a[key][1], b[key][1]] for key in differ[:ANSWERS]]


def _shown(value: Any) -> str:
    """Format a value: digests shortened, numbers with four decimals, None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return figure(value)
    if isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return value[:8]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
