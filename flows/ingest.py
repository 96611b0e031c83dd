"""Ingestion: from the recipe's data and encoding to a packed store."""

from __future__ import annotations

from prefect import flow
from prefect import task as prefect_task

from components.datasets.ingest import ingest
from components.datasets.store import DatasetRef, Store
from components.recipe import Recipe, read_recipe
from flows.console import bar, say
from flows.places import ROOT, places, recipe_path
from flows.retry import worth_retrying


@prefect_task(name="ingest", retries=1, retry_delay_seconds=2, retry_condition_fn=worth_retrying)
def ingest_task(recipe: Recipe) -> DatasetRef:
    """The recipe's dataset. What was ingested from the same content by the same code is reused; the key is made
    from the content, so Prefect's own caching would only add a second, weaker one."""
    # the split stays the same whatever the recipe's seed, so that models of several seeds meet the same test data
    with bar("ingest", None, "") as advance:
        ref = ingest(
            recipe.data,
            recipe.encoding,
            root=ROOT,
            cache_dir=places().datasets,
            seed=0,
            progress=lambda words: advance(0, words),
        )
    manifest = Store.open(ref.path).manifest
    counts = manifest["counts"]
    unit = next(iter(counts["train"]["units"]), "token")
    sizes = " · ".join(f"{split} {counts[split]['tokens']:,}" for split in ("train", "val", "test"))
    say(f"data    {manifest['name']}: tokens {sizes}{' (ingested before, reused)' if ref.reused else ''}")
    dropped = manifest["dropped"]
    if ref.reused and dropped:
        say(f"        left out: {sum(dropped.values()):,} for the reasons told then")
    elif not ref.reused:
        for reason, count in dropped.items():
            say(f"        left out: {count:,} × {reason}")
        for note in manifest["notes"]:
            say(f"        {note}")
    unknown = max(counts[split]["unk_rate"] for split in ("val", "test"))
    if unknown:
        say(f"        unknown {unit}s (<UNK>): up to {unknown:.3%} of val and test")
    return ref


@flow(name="ingest", flow_run_name="{recipe}")
def ingest_flow(recipe: str, overrides: list[str] | None = None) -> DatasetRef:
    """Ingest the data of a recipe (a name or a YAML file)."""
    return ingest_task(read_recipe(recipe_path(recipe), overrides or []))
