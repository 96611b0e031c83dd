"""Ingestion: reads and encodes a recipe's data into a packed store."""

from __future__ import annotations

from dataclasses import replace

from components.bundle import make_task
from components.console import bar, out, say
from components.datasets.ingest import ingest
from components.datasets.store import DatasetRef, Store
from components.datasets.targets import told
from components.errors import UserError
from components.recipe import Recipe
from components.runs.asked import Asked
from components.runs.places import STATE, places
from components.runs.start import with_letter_models


def ingest_recipe(recipe: Recipe, asked: Asked | None = None) -> DatasetRef:
    """Ingest the recipe's data; prints the notes of `asked`. A dataset made from the same content by the same code is
    reused: its key is computed from the content, so Prefect's caching isn't needed."""
    for note in asked.notes if asked else []:
        say(f"note    {note}")
    # the split doesn't depend on the recipe's seed, so that models with several seeds have the same test data
    with bar("ingest", None, "") as advance:
        ref = ingest(
            recipe.data,
            recipe.encoding,
            root=STATE,
            cache_dir=places().datasets,
            seed=0,
            progress=lambda words: advance(0, words),
            vectors=recipe.model.get("vectors"),
        )
    manifest = Store.open(ref.path).manifest
    counts = manifest["counts"]
    unit = next(iter(counts["train"]["units"]), "token")
    sizes = " · ".join(f"{split} {counts[split]['tokens']:,}" for split in ("train", "val", "test"))
    say(f"data    {manifest['name']}: tokens {sizes}{' (ingested before, reused)' if ref.reused else ''}")
    dropped = manifest["dropped"]
    if ref.reused and dropped:
        say(f"        left out: {sum(dropped.values()):,} (for the reasons: reprise ingest RECIPE --report)")
    elif not ref.reused:
        for reason, count in dropped.items():
            say(f"        left out: {count:,} × {reason}")
        for note in manifest["notes"]:
            say(f"        {note}")
    for line in told(manifest.get("labels", {})):
        say(f"        {line}")
    unknown = max(counts[split]["unk_rate"] for split in ("val", "test"))
    if unknown:
        say(f"        unknown {unit}s (<UNK>): up to {unknown:.3%} of val and test")
    return ref


def settled(recipe: Recipe, dataset: DatasetRef, asked: Asked) -> Recipe:
    """The recipe with exact versions of the models it names and generation settings that fit the data. They are checked
    before training, because a prompt that doesn't fit the data would otherwise fail only at the end. The prompt of a
    built-in recipe on other data is replaced.

    Raises:
        UserError: prompt, constraints or other settings don't fit the data.
    """
    recipe = with_letter_models(recipe)
    store = Store.open(dataset.path)
    task = make_task(recipe.task, store.encoding(), store.manifest["framing"])
    if task.settings is None:
        return recipe
    try:
        warnings = task.rehearse(task.settings(**recipe.generation))
    except UserError as error:
        warnings, refused = [], error
    else:
        refused = None
    prompt = recipe.generation.get("prompt")
    if asked.gives_way("generation.prompt") and prompt and (refused or warnings):
        begun = task.beginning(store.split("train"))
        now = repr(begun) if begun else "none"
        say(f"note    generation.prompt {prompt!r} suits only the recipe's own data; for yours it is {now}")
        kept = replace(recipe, generation={**recipe.generation, "prompt": begun})
        task.rehearse(task.settings(**kept.generation))
        return kept
    if refused:
        raise refused
    for warning in warnings:
        say(f"warning: {warning}")
    return recipe


def show_report(ref: DatasetRef) -> None:
    """Print a line per file with its reader's report or its size. MLflow has the same as a table,
    `ingestion/files.json`."""
    manifest = Store.open(ref.path).manifest
    rows = manifest["report"] or [{"file": source["name"], "bytes": source["bytes"]} for source in manifest["sources"]]
    for row in rows:
        told = (f"{key.replace('_', ' ')} {value}" for key, value in list(row.items())[1:] if value not in (None, ""))
        out.print(f"{next(iter(row.values()))}: {' · '.join(told)}")
    for reason, count in manifest["dropped"].items():
        out.print(f"left out: {count:,} × {reason}")
