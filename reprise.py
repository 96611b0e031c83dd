"""Reprise in Python: use a trained model, or train one.

    import reprise

    names = reprise.load("names@champion")
    print(names.generate(count=5, seed=7))

Every mistake of yours is a `reprise.UserError`: what is wrong, where, and the way out.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import UserError

if TYPE_CHECKING:
    from components.bundle import Generation
    from components.runs.outcome import Outcome
    from components.score import Score
    from components.use.description import Description
    from components.use.opening import Opened

__all__ = ["Model", "UserError", "load", "run"]


def load(model: str, *, language_model: str | None = None) -> Model:
    """A trained model, ready to use, on the CPU.

    Args:
        model: NAME (its champion), NAME@champion, NAME@3 or NAME@latest of the registry; or "run:ID", the model of a
            run of this machine, registered or not.
        language_model: A model of characters, named in the same ways, that helps a model of speech to spell.

    Raises:
        UserError: there is no such model, version or run, its files aren't those that were saved, or the two models
            don't go together.
    """
    _before_torch()
    from components.runs.generate import open_model
    from components.use.lines import with_language_model

    opened = open_model(model)
    if language_model:
        with_language_model(opened.bundle, open_model(language_model).bundle)
    return Model(opened)


def run(
    recipe: str | os.PathLike[str],
    *,
    name: str | None = None,
    device: str = "auto",
    threads: int = 0,
    **settings: Any,
) -> Outcome:
    """Run a recipe from its data to a registered model and what it writes, as the command does: a Prefect server is
    started where none answers, and stays; `reprise down` stops it.

    Args:
        recipe: One of our recipes by its name, or the path of a YAML file of your own.
        name: Of the experiment and the model; else the recipe's, with that of the data where they are your own.
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads; 0 is one for each core.
        settings: What differs from the recipe's, by section: training={"steps": 500}, seed=3; further down with points:
            encoding={"input.grid": 2}. None takes a setting away.

    Returns:
        What was reached: `metrics` (by name: "test/accuracy"), `model` (the registered version, None where the recipe's
        `accept` refused it), `files`, `run_id`, `url`; `reprise.load(outcome.selector)` opens its model.

    Raises:
        UserError: there is no such recipe, or a setting doesn't exist or is wrong. Nothing was started then.
    """
    overrides = _overrides(settings)
    _before_torch()
    from flows.commands.base import run_recipe

    return run_recipe(os.fspath(recipe), overrides, device, threads, name)


class Model:
    """A trained model. It writes (`generate`, `write`) or answers (`predict`), never both; `describe` says which."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    @property
    def name(self) -> str:
        """Its name in the registry, that of its recipe."""
        return self._opened.name

    @property
    def version(self) -> str:
        """Its number in the registry; "" of a run's model that isn't registered."""
        return self._opened.version

    @property
    def run_id(self) -> str:
        """The MLflow run that trained it."""
        return self._opened.run_id

    @property
    def reads(self) -> str | None:
        """What `predict` takes: text, symbols, frames or audio; None: the model writes."""
        return self.describe().reads

    @property
    def writes(self) -> str | None:
        """What `generate` gives: text or notes; None: the model answers."""
        return self.describe().writes

    @property
    def settings(self) -> dict[str, Any]:
        """How it writes where nothing else is asked for, by name: what `generate` takes."""
        return self.describe().settings

    def describe(self) -> Description:
        """What the model does and what it can be asked for: `task`, `reads`, `writes`, `step_shape`, `columns`,
        `accepts`, `settings`, `trained_on` and `metrics`."""
        from components.use.description import describe

        bundle = self._opened.bundle
        return describe(bundle.task, bundle.encoding, bundle.recipe, bundle.info)

    def generate(
        self,
        *,
        seed: int = 0,
        melody: str | os.PathLike[str] | None = None,
        start: str | os.PathLike[str] | None = None,
        **settings: Any,
    ) -> list[str] | list[Score]:
        """New texts or scores. The same seed and settings give the same ones, here, at the command line and over HTTP.

        Args:
            seed: From 0 to 2^63 − 1.
            melody: A music file; the other voices are written under its first piece, to its end.
            start: A music file; pieces go on from its first piece. Not together with `melody`.
            settings: In place of the model's own, among them count (1 to 64), max_length (tokens), temperature (0 to
                10; 0 is always the likeliest), top_k, top_p, prompt; of music also chords, choruses, bars, tempo_bpm
                (quarter notes a minute), band, constraints.

        Returns:
            A list of `count` strings, or of scores (`components.score.Score`: parts of notes, in steps of which
            `steps_per_beat` make a quarter note).

        Raises:
            UserError: the model answers, a setting doesn't exist or is out of range, or a file can't be read. What you
            should know beside it (a character that the model has never seen) is a Python warning.
        """
        return self._made(seed, melody, start, settings).items

    def write(
        self,
        folder: str | os.PathLike[str],
        *,
        seed: int = 0,
        melody: str | os.PathLike[str] | None = None,
        start: str | os.PathLike[str] | None = None,
        soundfont: str | os.PathLike[str] | None = None,
        **settings: Any,
    ) -> list[Path]:
        """As `generate`, into files: one of texts, or for each score MIDI, MusicXML, sound, a picture and a page. Each
        says how it was made; `reprise replay FILE` makes it again.

        Args:
            folder: Where they are written; it is made where it isn't there.
            soundfont: An .sf2 file whose instruments play the music, in place of the built-in sound.
            seed, melody, start, settings: As `generate` takes them.

        Returns:
            The files' paths.

        Raises:
            UserError: as `generate`; or the folder can't be written to, the soundfont can't be read or the model writes
            text.
        """
        from components.paths import output_folder
        from components.render.soundfont import read_soundfont
        from components.use.writing import write

        target = output_folder(folder, where="folder")
        font = read_soundfont(_path(soundfont, "soundfont")) if soundfont else None
        return write(self._opened, self._made(seed, melody, start, settings), target, font)

    def predict(self, inputs: Iterable[Any]) -> list[dict[str, Any]]:
        """The answer to each input.

        Args:
            inputs: A list of what the model reads (`reads`). text: strings of 100,000 characters at most. symbols:
                lists of strings, or strings that are split. frames: lists or arrays [T, features], or pictures
                [T, height, width]; T up to 20,000. audio: `pathlib.Path`s of WAV files, their bytes, or
                (samples [N] of full scale ±1, samples a second).

        Returns:
            A dictionary for each, in their order, with the keys of `describe().columns`: {"label", "probability"},
            {"values"} in the data's own units, {"tags"} (of a text: {"tokens", "tags"}), or {"text"}.

        Raises:
            UserError: the model writes, or an input isn't what it reads; `where` says which: inputs[2].
        """
        from components.answers import answered, input_of, read

        bundle = self._opened.bundle
        bundle.predict([])  # does it answer?
        if isinstance(inputs, str | bytes | os.PathLike | Mapping):
            raise UserError("predict takes a list of inputs", where="inputs", hint="predict([one])")
        encoding = input_of(bundle.encoding)
        return answered(bundle, [read(encoding, one, f"inputs[{number}]") for number, one in enumerate(inputs)])

    def __repr__(self) -> str:
        told = self.describe()
        does = f"writes {told.writes}" if told.writes else f"reads {told.reads}"
        return f"<reprise.Model {self._opened.selector}: {told.task}, {does}>"

    def _made(self, seed: int, melody: Any, start: Any, settings: Mapping[str, Any]) -> Generation:
        from components.use.given import given

        bundle = self._opened.bundle
        files = (path and str(_path(path, name)) for path, name in ((melody, "melody"), (start, "start")))
        doubts: list[str] = []
        asked = given(bundle, *files, tell=lambda line: None, doubt=doubts.append) | dict(settings)
        made = bundle.generate(asked, seed=seed)
        for warning in [*doubts, *made.warnings]:
            warnings.warn(warning, stacklevel=3)  # where `generate` or `write` was called
        return made


def _overrides(settings: Mapping[str, Any]) -> list[str]:
    """Settings by section as the `KEY=VALUE` of the command line."""
    flat: dict[str, Any] = {}
    for section, value in settings.items():
        if isinstance(value, Mapping):
            flat |= {f"{section}.{key}": one for key, one in value.items()}
        else:
            flat[section] = value
    try:
        write = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=os.fspath).encode
        return [f"{key}={write(value)}" for key, value in flat.items()]
    except (TypeError, ValueError) as error:
        raise UserError(f"a setting that no recipe can hold: {error}", where="settings") from None


def _path(given: str | os.PathLike[str], where: str) -> Path:
    from components.paths import user_path

    return user_path(given, where=where)


def _before_torch() -> None:
    """Threads that spin at barriers make everything several times slower on a busy machine; torch reads this once."""
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
