"""A trained model in Python."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from components.bundle import Generation
    from components.encodings.doubts import Doubts
    from components.ink import Ink
    from components.score import Score
    from components.tasks.explanation import Explanation
    from components.use.description import Description
    from components.use.opening import Opened
    from components.use.scoring import Scored


class Model:
    """A trained model. It either generates (`generate`, `write`) or predicts (`predict`); `describe` says which."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    @property
    def name(self) -> str:
        """Name in the registry."""
        return self._opened.name

    @property
    def version(self) -> str:
        """Version number in the registry; "" if the model isn't registered."""
        return self._opened.version

    @property
    def run_id(self) -> str:
        """Id of the MLflow run that trained the model."""
        return self._opened.run_id

    @property
    def reads(self) -> str | None:
        """Input of `predict`: text, symbols, frames, audio or series. None if the model generates."""
        return self.describe().reads

    @property
    def writes(self) -> str | None:
        """Output of `generate`: text, notes or strokes. None if the model predicts."""
        return self.describe().writes

    @property
    def settings(self) -> dict[str, Any]:
        """Default values of the settings of `generate`, by name."""
        return self.describe().settings

    def describe(self) -> Description:
        """Description of the model: `task`, `reads`, `writes`, `step_shape`, `columns`, `accepts`, `settings`,
        `trained_on` and `metrics`."""
        from components.use.description import describe

        bundle = self._opened.bundle
        return describe(bundle.task, bundle.encoding, bundle.recipe, bundle.info)

    def generate(
        self,
        *,
        seed: int = 0,
        melody: str | os.PathLike[str] | None = None,
        start: str | os.PathLike[str] | None = None,
        keep: str | os.PathLike[str] | None = None,
        rewrite: str | None = None,
        **settings: Any,
    ) -> list[str] | list[Score] | list[Ink]:
        """Generate texts, scores or ink.

        The same seed and settings give the same output here, on the command line and over HTTP. Minor problems, such
        as a prompt with a character that the model has never seen, are Python warnings.

        Args:
            seed: Random seed, from 0 to 2^63 − 1.
            melody: A music file. The model writes the other voices for its first piece.
            start: A music file. The model continues its first piece. Can't be combined with `melody`.
            keep: A music file. The model rewrites the part `rewrite` of its first piece and keeps the rest.
            rewrite: The part: "bars 5-8", "bars 5-8, alto tenor", "bar 3; beats 33-36, bass".
            settings: Settings that replace the model's defaults: count (1 to 64), max_length (tokens), temperature (0
                to 10; 0 is always the likeliest), top_k, top_p, prompt. For strokes count, max_length (points), prompt
                (the text to write) and bias (0 to 20; more is neater). For music also chords, choruses, bars,
                form ("AABA"), form_strength, tempo_bpm (quarter notes per minute), band, constraints, particles
                (weighed for `rewrite`).

        Returns:
            A list of `count` strings, scores or drawings. A drawing (`components.ink.Ink`) has `strokes`, arrays
            [N, 2] of points. A score (`components.score.Score`) has parts of notes; times are in
            steps, `steps_per_beat` of them to a quarter note.

        Raises:
            UserError: The model doesn't generate, a setting doesn't exist or is out of range, or a file can't be read.
        """
        return self._made(seed, (melody, start, keep), rewrite, settings).items

    def write(
        self,
        folder: str | os.PathLike[str],
        *,
        seed: int = 0,
        melody: str | os.PathLike[str] | None = None,
        start: str | os.PathLike[str] | None = None,
        keep: str | os.PathLike[str] | None = None,
        rewrite: str | None = None,
        soundfont: str | os.PathLike[str] | None = None,
        **settings: Any,
    ) -> list[Path]:
        """Generate texts, scores or ink and write them to files.

        Texts go to one file. Ink becomes SVG and a picture, each score MIDI, MusicXML, sound, a picture and an HTML
        page. Each file records how it was made; `reprise replay FILE` regenerates it.

        Args:
            folder: The output folder. It is created if it doesn't exist.
            soundfont: An .sf2 file to play the music with instead of the built-in sound.
            seed, melody, start, keep, rewrite, settings: See `generate`.

        Returns:
            The paths of the files.

        Raises:
            UserError: As for `generate`; or the folder can't be written to, or the soundfont can't be read or is given
                for a model of text.
        """
        from components.paths import output_folder
        from components.render.soundfont import read_soundfont
        from components.use.writing import write

        target = output_folder(folder, where="folder")
        font = read_soundfont(_path(soundfont, "soundfont")) if soundfont else None
        return write(self._opened, self._made(seed, (melody, start, keep), rewrite, settings), target, font)

    def predict(self, inputs: Iterable[Any]) -> list[dict[str, Any]]:
        """Predict for each input.

        Args:
            inputs: A list of inputs of the type that `reads` names. text: strings of at most 100,000 characters.
                symbols: lists of strings, or strings, which are split. frames: lists or arrays [T, features], or
                pictures [T, height, width], with T up to 20,000. audio: `pathlib.Path`s of WAV files, their bytes, or
                tuples (samples [N] with full scale ±1, samples per second). series: pandas Series with times as their
                index, or dictionaries with `values` and the time of the first, `start`, or of all, `times`; where the
                model needs them, `covariates` by name, for these steps and for those that are predicted.

        Returns:
            A dictionary per input, in order, with the keys in `describe().columns`: {"label", "probability"},
            {"values"} in the units of the data, {"tags"} (for text {"tokens", "tags"}), {"text"}, or the lists of a
            forecast {"time", "mean", "q0.1", …, "q0.9"}, an entry for each step. Inputs with no word that the model
            knows are Python warnings.

        Raises:
            UserError: The model doesn't predict, or an input is of the wrong type. `where` names it: inputs[2].
        """
        from components.answers import answered

        bundle = self._opened.bundle
        bundle.predict([])  # raises if the model doesn't predict
        return answered(bundle, self._read("predict", inputs))

    def explain(self, inputs: Iterable[Any], *, best: int | None = None) -> list[Explanation]:
        """Explain predictions: the input as the model reads it, alternative predictions, and the contribution of each
        part.

        Classification, regression and tagging: contributions by integrated gradients (Sundararajan et al. 2017), which
        add up to how much the output differs from that for zeros. Translation: attention. Speech: times of letters and
        words.

        Args:
            inputs: As for `predict`.
            best: Number of choices to list; all labels, or all that the beam search keeps, by default.

        Returns:
            An explanation per input: `answer` as from `predict`; `choices`, `positions`, `words` and `totals`, lists of
            rows, which are dictionaries; and `matrix` with `values` (float [rows, columns]) and the names of `rows` and
            `columns`, or None. `as_dict()` returns all of it as JSON-ready data.

        Raises:
            UserError: As for `predict`; or the model's task has no explanations, a sequence to be tagged has more than
                100 steps, or there aren't `best` choices.
        """
        from components.answers import explained

        return explained(self._opened.bundle, self._read("explain", inputs), best)

    def states(self, inputs: Iterable[Any]) -> list[dict[str, np.ndarray]]:
        """Embeddings and hidden states of each input.

        Args:
            inputs: As for `predict`; for a language model texts or scores.

        Returns:
            Arrays by name, for each input of T steps: `embedding`, float32 [T, E], what the first layer reads (not of
            one-hot inputs); `layer_1`, `layer_2` …, float32 [T, H], the hidden states of each layer (of two directions
            [T, 2 H], forward first); `pooled`, float32 [H], the vector of the whole sequence from which a label or
            number is predicted; `tokens`, strings [T], for text and symbols. A language model of separate sequences
            reads <BOS> first. For an encoder-decoder they are the encoder's; for a forecast those of its context.

        Raises:
            UserError: The model is a graph or one of piano rolls or notes, or an input is of the wrong type.
        """
        from components.answers import states

        return states(self._opened.bundle, self._read("states", inputs))

    def score(self, items: Sequence[Any]) -> list[Scored]:
        """Likelihood of each text or score (`components.score.Score`) under a language model.

        Returns:
            For each item its `tokens`, their `nats` (float64 [T]), and `nats_per_token`, `bits_per_token`,
            `perplexity`, `total_nats` and `unknown`, the number of tokens that the model doesn't know.

        Raises:
            UserError: the model is no language model, or an item can't be read, is empty or too long.
        """
        from components.encodings.doubts import Doubts
        from components.use.scoring import score

        doubts = Doubts()
        found = score(self._opened.bundle, _listed("score", items), doubts)
        _warn(doubts, stacklevel=3)
        return found

    def __repr__(self) -> str:
        told = self.describe()
        does = f"writes {told.writes}" if told.writes else f"reads {told.reads}"
        return f"<reprise.Model {self._opened.selector}: {told.task}, {does}>"

    def _read(self, method: str, inputs: Iterable[Any]) -> list[Any]:
        """The inputs as the model reads them; unchanged for a model that generates."""
        from components.answers import input_of, read
        from components.encodings.doubts import Doubts

        bundle = self._opened.bundle
        listed = _listed(method, inputs)
        if bundle.task.settings is not None:
            return listed
        encoding = input_of(bundle.encoding)
        doubts = Doubts()
        items = [read(encoding, one, f"inputs[{number}]", doubts) for number, one in enumerate(listed)]
        _warn(doubts)
        return items

    def _made(self, seed: int, files: Sequence[Any], rewrite: str | None, settings: Mapping[str, Any]) -> Generation:
        from components.use.given import given

        bundle = self._opened.bundle
        doubts: list[str] = []
        names = ("melody", "start", "keep")
        under, begun, kept = (str(_path(f, name)) if f else None for f, name in zip(files, names, strict=True))
        asked = given(bundle, under, begun, lambda line: None, doubts.append, keep=kept, rewrite=rewrite)
        asked |= {name: _plain(value) for name, value in settings.items()}
        made = bundle.generate(asked, seed=_plain(seed))
        for warning in [*doubts, *made.warnings]:
            warnings.warn(warning, stacklevel=3)  # where `generate` or `write` was called
        return made


def _warn(doubts: Doubts, stacklevel: int = 4) -> None:
    for line in doubts.lines():
        warnings.warn(line.removeprefix("warning: "), stacklevel=stacklevel)


def _path(given: str | os.PathLike[str], where: str) -> Path:
    from components.paths import user_path

    return user_path(given, where=where)


def _listed(method: str, inputs: Iterable[Any]) -> list[Any]:
    """The inputs as a list. Raises UserError for a single input, a table (whose iterator gives column names) or a set
    (which has no order)."""
    alone = isinstance(inputs, str | bytes | os.PathLike | Mapping) or not isinstance(inputs, Iterable)
    if alone or hasattr(inputs, "columns") or isinstance(inputs, Set):
        hint = f'{method}(table["column"])' if hasattr(inputs, "columns") else f"{method}([one_input])"
        hint = f"{method}(list(inputs))" if isinstance(inputs, Set) else hint
        what = f"{method} takes a list of inputs, not {type(inputs).__name__}"
        raise UserError(what, where="inputs", hint=hint)
    return list(inputs)


def _plain(value: Any) -> Any:
    """A NumPy number as a Python number."""
    return value.item() if hasattr(value, "item") and not getattr(value, "shape", None) else value
