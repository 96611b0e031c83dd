"""Generation of sequences into files with a registered model; each file can be regenerated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.bundle import Generation
from components.console import bar, say
from components.errors import UserError
from components.paths import as_user
from components.provenance import digest_json
from components.render.record import read_record
from components.render.soundfont import Soundfont, font_of_record, read_soundfont
from components.runs.places import places
from components.runs.record import find_run
from components.tracking.mlflow_store import MlflowStore
from components.training.device import choose_device
from components.use import opening
from components.use.given import given
from components.use.opening import Opened, OwnRun, selector_of
from components.use.writing import write


def open_model(selector: str, device: str = "cpu") -> Opened:
    """Load the model for a selector (`components.use.opening.Selector`) on a device: auto, cpu, cuda or cuda:N."""
    return opening.open_model(selector, MlflowStore(places().settings), _own_run, choose_device(device))


def exactly(selector: str) -> str:
    """A selector for the same model that doesn't change its meaning: NAME@VERSION instead of an alias.

    Raises:
        UserError: there is no such model, version or run.
    """
    asked = opening.Selector.parse(selector)
    if asked.run:
        return selector_of("", "", find_run(asked.run, places()).ref.run_id)
    ref = opening.find(selector, MlflowStore(places().settings))
    return selector_of(ref.name, ref.version, ref.run_id)


def _own_run(run: str) -> OwnRun:
    where = places()
    record = find_run(run, where)
    return OwnRun(record.recipe.name, record.ref.run_id, where.run_folder(record.ref.run_id) / "bundle")


def generate(opened: Opened, overrides: Mapping[str, Any], seed: int) -> Generation:
    """Generate sequences with a progress bar, and print warnings."""
    limit = overrides.get("max_length") or opened.bundle.recipe["generation"]["max_length"]
    with bar("generate", limit, "tokens") as advance:
        made = opened.bundle.generate(overrides, seed=seed, progress=lambda done: advance(done, ""))
    for warning in made.warnings:
        say(f"warning: {warning}")
    return made


def folder_for(opened: Opened, made: Generation, soundfont: Soundfont | None = None) -> Path:
    """A separate folder for each model, seed and settings."""
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
    keep: str | None = None,
    rewrite: str | None = None,
) -> list[str]:
    """Generate with a model's default settings and `overrides`. Returns the paths of the files.

    `melody`, `start` and `keep` are music files: the model writes voices under the first, continues the second, or
    rewrites the region `rewrite` of the third. `soundfont` is an .sf2 file to play the music with.
    """
    font = read_soundfont(Path(soundfont)) if soundfont else None  # first, since it may be invalid
    opened = open_model(selector)
    own = re.compile(rf"{re.escape(opened.name)}-\d+\.\w+")  # names of the files that are written
    for source in (melody, start, keep):
        if source and out and Path(source).resolve().parent == Path(out).resolve() and own.fullmatch(Path(source).name):
            raise UserError(
                "might be overwritten by the output", where=str(source), hint="choose another folder: --out"
            )
    asked = given(
        opened.bundle,
        melody,
        start,
        tell=say,
        doubt=lambda line: say(f"        {line}"),
        keep=keep,
        rewrite=rewrite,
    )
    return generated(opened, asked | dict(overrides or {}), seed, out, font)[0]


def generated(
    opened: Opened,
    overrides: Mapping[str, Any],
    seed: int,
    out: str | None = None,
    soundfont: Soundfont | None = None,
) -> tuple[list[str], Generation]:
    """The paths of the generated files, and the generated items."""
    made = generate(opened, overrides, seed)
    with as_user():
        paths = write(opened, made, Path(out) if out else folder_for(opened, made, soundfont), soundfont)
    say(f"wrote   {len(made.items)} × {opened.name} to {paths[0].parent if paths else 'no file: all were empty'}")
    return [str(path) for path in paths], made


def replay(path: Path, out: Path | None, soundfont: Path | None = None) -> tuple[list[Path], bool]:
    """Regenerate a file from the record in it. Returns the new files, and whether they are identical to it.

    Raises:
        UserError: the file has no record, its model isn't available or differs, or it was made with a soundfont and
            `soundfont` isn't that file.
    """
    record = read_record(path)
    try:
        selector = selector_of(str(record["model"]), str(record["version"]), str(record.get("run_id", "")))
        seed, settings = record["seed"], record["settings"]
        weights = record["weights_sha256"]
        settings = dict(settings)
        played_by = record.get("soundfont")
        asked = (str(played_by["name"]), str(played_by["sha256"])) if played_by else None
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"its record wasn't written by Reprise: {error}", where=str(path)) from None
    font = font_of_record(asked, soundfont, path)
    opened = open_model(selector)
    if opened.bundle.weights_digest != weights:
        raise UserError(
            f"was made with other weights than {selector} has here",
            where=str(path),
            hint="register the same model here",
        )
    # the settings of the record; an older one lacks newer settings
    made = replace(generate(opened, settings, seed), settings=settings)
    folder = out or path.parent / "replayed"  # never over the file in question
    before = path.read_bytes()
    with as_user():
        paths = [p for p in write(opened, made, folder, font) if read_record(p) == record]
    again = next((p for p in paths if p.suffix == path.suffix), None)
    return paths, again is not None and again.read_bytes() == before
