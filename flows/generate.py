"""Generation: from a registered model to new sequences in files, each of which can be made again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.bundle import Bundle, Generation, load_bundle
from components.errors import UserError
from components.paths import as_user
from components.provenance import digest_json
from components.render.outputs import write_score, write_texts
from components.render.record import printable, read_record
from components.render.soundfont import Soundfont, font_of_record, read_soundfont
from components.tracking.mlflow_store import MlflowStore
from flows.console import bar, say
from flows.given import given
from flows.places import places
from flows.runs import find_run

SHOWN = ("temperature", "top_k", "top_p", "chords", "constraints")  # settings named on a piece's page


@dataclass(frozen=True)
class Opened:
    """A bundle and where it came from: `version` is "" for a run's own model that was not registered."""

    bundle: Bundle
    name: str
    version: str
    run_id: str

    @property
    def label(self) -> str:
        return f"{self.name}-v{self.version}" if self.version else f"{self.name}-run-{self.run_id[:8]}"


def open_model(selector: str) -> Opened:
    """NAME (its champion), NAME@champion, NAME@3, NAME@latest; or "run:ID", the unregistered model of a run here."""
    if selector.startswith("run:"):
        where = places()
        record = find_run(selector.removeprefix("run:"), where)
        folder = where.run_folder(record.ref.run_id) / "bundle"
        return Opened(load_bundle(folder), record.recipe.name, "", record.ref.run_id)
    name, _, version = selector.partition("@")
    store = MlflowStore(places().settings)
    ref = store.find(name, version or "champion")
    return Opened(load_bundle(store.fetch(ref)), ref.name, ref.version, ref.run_id)


def generate(opened: Opened, overrides: Mapping[str, Any], seed: int) -> Generation:
    """New sequences, with a progress bar and the warnings told."""
    limit = overrides.get("max_length") or opened.bundle.recipe["generation"]["max_length"]
    with bar("generate", limit, "tokens") as advance:
        made = opened.bundle.generate(overrides, seed=seed, progress=lambda done: advance(done, ""))
    for warning in made.warnings:
        say(f"warning: {warning}")
    return made


def write(opened: Opened, made: Generation, folder: Path, soundfont: Soundfont | None = None) -> list[Path]:
    """The files of all generated items. Scores are played by the `soundfont`, else by the built-in synthesiser."""
    record = {
        "model": opened.name,
        "version": opened.version,
        "run_id": opened.run_id,
        "weights_sha256": opened.bundle.weights_digest,
        "seed": made.seed,
        "settings": made.settings,
    }
    if isinstance(made.items[0], str):
        path = folder / f"{opened.name}.txt"
        write_texts(made.items, path, record)
        return [path]
    if soundfont:
        record["soundfont"] = {"name": printable(soundfont.name), "sha256": soundfont.digest}
    paths: list[Path] = []
    for number, (item, sampled) in enumerate(zip(made.items, made.sampled, strict=True), 1):
        facts = {
            "model": f"{opened.name} v{opened.version}" if opened.version else f"run {opened.run_id[:8]}",
            "seed": f"{made.seed}, number {number} of {len(made.items)}",
            **{name.replace("_", " "): shown(made.settings[name]) for name in SHOWN if made.settings.get(name)},
            "surprise": f"{sampled.nats_per_token:.3f} nats per {opened.bundle.encoding.unit}",
            "ending": "its own" if sampled.ended else "cut at max_length",
            "trained on": opened.bundle.info["data"]["name"],
            **({"played by": soundfont.name} if soundfont else {}),
        }
        title = f"{opened.name.replace('-', ' ').capitalize()} no. {number}"
        paths += write_score(
            replace(item, title=title),
            folder / f"{opened.name}-{number}",
            title=title,
            subtitle=f"written by a recurrent network, seed {made.seed}",
            facts=facts,
            record=record | {"number": number},
            soundfont=soundfont,
        )
    return paths


def shown(value: Any) -> str:
    """A setting for a person to read."""
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def folder_for(opened: Opened, made: Generation, soundfont: Soundfont | None = None) -> Path:
    """A folder of its own for each model, seed and settings."""
    settings = digest_json(made.settings | ({"soundfont": soundfont.digest} if soundfont else {}))[:6]
    return places().generated / f"{opened.label}-seed{made.seed}-{settings}"


def generate_files(
    selector: str,
    overrides: Mapping[str, Any] | None = None,
    seed: int = 0,
    out: str | None = None,
    melody: str | None = None,
    start: str | None = None,
    soundfont: str | None = None,
) -> list[str]:
    """Generate with a model's own settings and `overrides`; gives the files' paths.

    `melody` and `start` are music files: voices are written under the one, pieces go on from the other. `soundfont`
    is an .sf2 file whose instruments play them.
    """
    font = read_soundfont(Path(soundfont)) if soundfont else None  # before the work: it may be the wrong file
    opened = open_model(selector)
    return generated(opened, given(opened.bundle, melody, start) | dict(overrides or {}), seed, out, font)[0]


def generated(
    opened: Opened,
    overrides: Mapping[str, Any],
    seed: int,
    out: str | None = None,
    soundfont: Soundfont | None = None,
) -> tuple[list[str], Generation]:
    """The files of what a model writes, and what they hold."""
    made = generate(opened, overrides, seed)
    if soundfont and isinstance(made.items[0], str):
        raise UserError(f"{opened.name} writes text, which no soundfont plays", where="--soundfont")
    with as_user():
        paths = write(opened, made, Path(out) if out else folder_for(opened, made, soundfont), soundfont)
    say(f"wrote   {len(made.items)} × {opened.name} to {paths[0].parent if paths else 'no file: all were empty'}")
    return [str(path) for path in paths], made


def replay(path: Path, out: Path | None, soundfont: Path | None = None) -> tuple[list[Path], bool]:
    """Make a generated file again, from the record in it: the new files, and whether this one's bytes are the same.

    Raises:
        UserError: the file has no record, the model it names isn't here or isn't the same, or it was played by a
            soundfont and `soundfont` isn't that file.
    """
    record = read_record(path)
    try:
        selector = f"{record['model']}@{record['version']}" if record["version"] else f"run:{record['run_id']}"
        seed, settings = record["seed"], record["settings"]
        weights = record["weights_sha256"]
        settings = dict(settings)
        played_by = record.get("soundfont")
        asked = (str(played_by["name"]), str(played_by["sha256"])) if played_by else None
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"its record isn't one of ours: {error}", where=str(path)) from None
    font = font_of_record(asked, soundfont, path)
    opened = open_model(selector)
    if opened.bundle.weights_digest != weights:
        raise UserError(
            f"was made by other weights than those of {selector} here", where=str(path), hint="fetch the same model"
        )
    # the record's own settings: one made before a setting existed doesn't name it
    made = replace(generate(opened, settings, seed), settings=settings)
    folder = out or path.parent / "replayed"  # never over the file in question
    before = path.read_bytes()
    with as_user():
        paths = [p for p in write(opened, made, folder, font) if read_record(p) == record]
    again = next((p for p in paths if p.suffix == path.suffix), None)
    return paths, again is not None and again.read_bytes() == before
