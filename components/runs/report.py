"""A report on a recipe's runs as one HTML file, made from MLflow's data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from components.errors import UserError
from components.evaluation.baseline import is_baseline, strongest
from components.evaluation.run_report import Grid, Picture, Piece, RunReport, curves_svg, render, small_sound
from components.paths import as_user
from components.render.figures import figure
from components.render.record import without_record
from components.runs.places import places
from components.tracking.mlflow_reader import MlflowReader, RunFacts
from components.tracking.promotion import lower_is_better

CURVES, PIECES, PICTURES, TEXTS = 8, 3, 12, 3
MAX_WAV_BYTES, MAX_PICTURE_BYTES, MAX_TEXT_BYTES = 64 << 20, 2 << 20, 1 << 20
VARIED = 6  # most columns of settings in the table of runs
TABLES = {
    "samples/temperatures.json": "Samples by temperature or bias",
    "samples/during_training.json": "Samples during training",
    "predictions/test.json": "Predictions on test, worst first",
    "music/judgement.json": "Comparison with held-out music",
}
PARENTS = {"compare.digest", "tune.study"}  # tags of parent runs
# parameters that differ between runs but aren't settings to compare
UNSAID = ("parameters", "threads", "device", "accept", "workers", "data.path", "training.checkpoint_seconds")


def write(recipe: str, run: str | None, out: Path) -> Path:
    """Write the report of a recipe (a name or a YAML file) to `out`. `run` is the start of the id of the run to show in
    full; default: the best on val.

    Raises:
        UserError: the recipe has no finished run, there is no such run, or `out` can't be written.
    """
    report = gather(Path(recipe).stem, run)
    try:
        with as_user():
            out.write_text(render(report), encoding="utf-8")
    except OSError as error:
        raise UserError(error.strerror or str(error), where=str(out), hint="choose another file with --out") from None
    return out


def gather(name: str, run: str | None = None) -> RunReport:
    """The content of the report of an experiment."""
    reader = MlflowReader(places().settings)
    everything = reader.runs(name)
    runs = [
        each for each in everything if each.status == "FINISHED" and _bests(each) and not PARENTS & each.tags.keys()
    ]
    if not runs:
        hint = f"reprise run {name}"
        raise UserError(f"none of the latest {len(everything)} runs of {name} is finished", where="report", hint=hint)
    metric = _primary(runs)
    lower = lower_is_better(metric) is not False
    key = f"best/{metric}"
    ranked = sorted((r for r in runs if key in r.metrics), key=lambda r: r.metrics[key] if lower else -r.metrics[key])
    shown = _chosen(runs, run) if run else ranked[0]
    order = [shown, *(each for each in ranked if each.run_id != shown.run_id)]
    curves = {_named(each): reader.curve(each.run_id, f"val/{metric}") for each in order[:CURVES]}
    folders = {folder: reader.files(shown.run_id, folder) for folder in ("figures", "samples")}
    rest = len(everything) - len(runs)
    also = f"; {rest} unfinished, failed or parent runs not shown" if rest else ""
    which = "chosen with --run" if run else "the best on val"
    return RunReport(
        title=name,
        subtitle=f"{len(runs)} finished run{'s' * (len(runs) > 1)}{also}. Details: {shown.name}, {which}.",
        facts=_facts(shown, metric),
        figures=_figures(shown),
        runs=_runs(ranked, metric),
        curves=curves_svg(curves, metric),
        pieces=list(_pieces(reader, shown, folders["samples"])),
        texts=list(_texts(reader, shown, folders["samples"])),
        tables=[Grid(title, table) for path, title in TABLES.items() if (table := reader.table(shown.run_id, path))],
        pictures=list(_pictures(reader, shown, folders["figures"])) + _comparison(reader, everything),
        recipe=_recipe(reader, shown),
        digests=_digests(reader, shown),
    )


def _bests(run: RunFacts) -> list[str]:
    return sorted(key.removeprefix("best/") for key in run.metrics if key.startswith("best/"))


def _primary(runs: list[RunFacts]) -> str:
    """The primary metric: from the tags of the runs, else the first suitable one."""
    told = next((run.tags["primary.metric"] for run in runs if "primary.metric" in run.tags), "")
    names = _bests(runs[0])
    return told or next((name for name in names if name.startswith("nats_per_")), names[0])


def _chosen(runs: list[RunFacts], start: str) -> RunFacts:
    for run in runs:
        if run.run_id.startswith(start) or run.name == start:
            return run
    ids = ", ".join(f"{run.run_id[:8]} ({run.name})" for run in runs[:10])
    raise UserError(f"no finished run {start!r}", where="--run", hint=f"finished runs: {ids}")


def _named(run: RunFacts) -> str:
    return f"{run.name} ({run.run_id[:6]})"


def _facts(run: RunFacts, metric: str) -> dict[str, str]:
    unit = metric.replace("_per_", "/").replace("_", " ")
    facts = {}
    for split, key in (("test", f"test/{metric}"), ("val", f"best/{metric}")):
        if key in run.metrics:
            facts[f"{split}: {unit}"] = figure(run.metrics[key])
    if "parameters" in run.params:
        facts["parameters"] = f"{int(run.params['parameters']):,}"
    if "train/seconds" in run.metrics:
        facts["training"] = f"{run.metrics['train/seconds']:,.0f} s"
    if baseline := strongest(run.metrics, lower_is_better(metric) is not False):
        facts[f"baseline: {baseline.name}"] = figure(baseline.value)
    facts["run"] = f"{run.name} ({run.run_id[:8]})"
    if "registered" in run.tags:
        facts["registered"] = run.tags["registered"].partition(":")[0]
    return facts


def _figures(run: RunFacts) -> Grid:
    names = _bests(run)
    columns: dict[str, list[object]] = {"metric": [*names]}
    for title, prefix in (("val", "best/"), ("test", "test/")):
        beside = [run.metrics[key] if key.split("/")[1] == title else None for key in run.metrics if is_baseline(key)]
        columns[title] = [*(run.metrics.get(prefix + name) for name in names), *beside]
    columns["metric"] += [f"baseline: {key.split('/', 2)[2]}" for key in run.metrics if is_baseline(key)]
    return Grid("figures", columns)


def _runs(runs: list[RunFacts], metric: str) -> Grid:
    """The runs, best on val first, with the settings that differ between them."""
    keys = dict.fromkeys(key for run in runs for key in run.params if not key.startswith(UNSAID))
    # a setting that some runs lack (of another cell, or of a later version) doesn't count as varied
    varied = [key for key in keys if len({run.params[key] for run in runs if key in run.params}) > 1]
    columns: dict[str, list[object]] = {"run": [_named(run) for run in runs]}
    columns[f"val {metric}"] = [run.metrics.get(f"best/{metric}") for run in runs]
    columns[f"test {metric}"] = [run.metrics.get(f"test/{metric}") for run in runs]
    columns |= {key.rpartition(".")[2]: [run.params.get(key, "") for run in runs] for key in varied[:VARIED]}
    columns["seconds"] = [run.metrics.get("train/seconds") for run in runs]
    columns["started (UTC)"] = [run.started[5:16].replace("T", "\N{NO-BREAK SPACE}") for run in runs]
    return Grid("runs", columns, 40)


def _pieces(reader: MlflowReader, run: RunFacts, files: dict[str, int]) -> Iterator[Piece]:
    """The generated pieces with sound, with their piano rolls."""
    sounds = [path for path, size in files.items() if path.endswith(".wav") and size <= MAX_WAV_BYTES]
    for path in sounds[:PIECES]:
        roll = path.removesuffix(".wav") + ".png"
        png = reader.read(run.run_id, roll, MAX_PICTURE_BYTES) if 0 < files.get(roll, 0) <= MAX_PICTURE_BYTES else b""
        yield Piece(Path(path).stem, small_sound(reader.read(run.run_id, path, MAX_WAV_BYTES)), png)


def _texts(reader: MlflowReader, run: RunFacts, files: dict[str, int]) -> Iterator[tuple[str, str]]:
    texts = [path for path, size in files.items() if path.endswith(".txt") and size <= MAX_TEXT_BYTES]
    for path in texts[:TEXTS]:
        text = reader.read(run.run_id, path, MAX_TEXT_BYTES).decode("utf-8", errors="replace")
        yield Path(path).name, without_record(text)


def _pictures(reader: MlflowReader, run: RunFacts, files: dict[str, int]) -> Iterator[Picture]:
    fitting = [path for path, size in files.items() if path.endswith(".png") and size <= MAX_PICTURE_BYTES]
    for path in fitting[:PICTURES]:
        title = Path(path).stem.replace("_", " ")
        yield Picture(title, reader.read(run.run_id, path, MAX_PICTURE_BYTES))


def _comparison(reader: MlflowReader, runs: list[RunFacts]) -> list[Picture]:
    """The pictures of the latest comparison and of the latest search."""
    found = []
    for tag, path, what in (
        ("compare.digest", "figures/compare.png", "latest comparison"),
        ("tune.study", "figures/tune.png", "latest search"),
    ):
        parent = next((run for run in runs if tag in run.tags and not run.parent), None)
        if parent and 0 < reader.files(parent.run_id, "figures").get(path, 0) <= MAX_PICTURE_BYTES:
            found.append(Picture(f"{what}: {parent.name}", reader.read(parent.run_id, path, MAX_PICTURE_BYTES)))
    return found


def _recipe(reader: MlflowReader, run: RunFacts) -> str:
    if "recipe.yaml" not in reader.files(run.run_id):
        return ""
    return reader.read(run.run_id, "recipe.yaml", MAX_TEXT_BYTES).decode("utf-8", errors="replace")


def _digests(reader: MlflowReader, run: RunFacts) -> dict[str, str]:
    tags = {"recipe": "recipe.digest", "data": "data.digest", "code": "code.commit"}
    found = {name: run.tags[tag] for name, tag in tags.items() if tag in run.tags}
    for context, facts in reader.datasets(run.run_id).items():
        found[f"data, {context}"] = f"{facts.get('sha256', '')} ({facts.get('sequences', '?')} sequences)"
    found["run id"] = run.run_id
    found |= {tag.removeprefix("version."): value for tag, value in run.tags.items() if tag.startswith("version.")}
    return found
