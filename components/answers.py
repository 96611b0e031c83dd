"""Inputs and answers of models that predict, shared by the command line, Python, HTTP and MLflow. Shipped with each
registered model.

Shapes: T steps, W features, H × W pixels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

import numpy as np

from components.bounds import MAX_CHARACTERS
from components.encodings.base import Encoding
from components.encodings.doubts import Doubts, understood
from components.encodings.mel import Mel
from components.encodings.series import SeriesValues
from components.errors import UserError

if TYPE_CHECKING:
    from components.bundle import Bundle
    from components.tasks.explanation import Explanation


def input_of(encoding: Encoding) -> Encoding:
    """The encoding of a model's input: of a pair, the first."""
    return getattr(encoding, "input", encoding)


class Splits(Protocol):
    """An encoding that splits a text into tokens, each of which can be tagged."""

    def split(self, text: str) -> list[str]: ...


def splits(encoding: object) -> TypeGuard[Splits]:
    """Whether the encoding is one of `Splits`."""
    return hasattr(encoding, "split")


def read(encoding: Encoding, given: Any, where: str, doubts: Doubts | None = None) -> Any:
    """Convert an input to the item that the encoding reads (see `Encoding.reads`). Warnings for the user are added to
    `doubts`.

    text: a string, or a list of words if the encoding splits texts. symbols: a list of strings, or a string to be
    split. frames: numbers, lists or an array, [T, W], or pictures [T, H, W], as float64 without loss. audio: the bytes
    of a WAV file, also in base64, its path, or (samples [N], samples a second). series: a mapping of `values` and their
    `start` or `times`, or a pandas Series; see `components.datasets.series.given`.

    Raises:
        UserError: the input has the wrong form; `where` names it. Its content is checked by the model.
    """
    doubts = doubts or Doubts()
    if encoding.reads == "frames":
        return _numbers(given, where)
    if encoding.reads == "audio":
        sound = _sound(given, where)
        if isinstance(encoding, Mel) and isinstance(sound[1], int) and encoding.too_slow(sound[1]):
            what = f"the sample rate is only {sound[1]:,} Hz: the model's bands above {sound[1] / 2:,g} Hz are empty"
            doubts.add(what, where)
        return sound
    if isinstance(encoding, SeriesValues):
        from components.datasets.series.given import given_series

        series = given_series(given, encoding, where)
        if len(series.values) <= (back := max(encoding.read_lags, default=0)):
            doubts.add(f"warning: fewer values than the {back:,} steps back that the model reads", where)
        return series
    if isinstance(given, str):
        if given.isspace():  # as in files, where blank lines aren't inputs
            raise UserError("the text contains only blanks", where=where)
        return understood(encoding, checked_text(given, where), where, doubts)
    if encoding.reads != "symbols" and isinstance(given, list | tuple) and any(_blank(word) for word in given):
        raise UserError(f"word {[_blank(word) for word in given].index(True) + 1} is blank", where=where)
    listed = isinstance(given, list | tuple | np.ndarray) and all(isinstance(one, str) for one in given)
    can_split = splits(encoding)
    if not listed or not can_split:
        wanted = "a list of texts" if encoding.reads == "symbols" else "a text"
        raise UserError(f"the encoding {encoding.kind} needs {wanted}, not {type(given).__name__}", where=where)
    return understood(encoding, [str(one) for one in given], where, doubts)


def _blank(word: Any) -> bool:
    return isinstance(word, str) and not word.strip()


def checked_text(text: str, where: str) -> str:
    """Return the text if it is valid.

    Raises:
        UserError: it is longer than MAX_CHARACTERS, or can't be encoded.
    """
    if len(text) > MAX_CHARACTERS:
        raise UserError(f"the text has {len(text):,} characters; at most {MAX_CHARACTERS:,} are allowed", where=where)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError("contains half of a surrogate pair, not valid text", where=where) from None
    return text


def answered(bundle: Bundle, items: Sequence[Any], where: str = "inputs", first: int = 0) -> list[dict[str, Any]]:
    """The answer to each item from `read`, as named columns (see `columns`).

    Raises:
        UserError: see `Bundle.predict`; items are named by their index, `where`[`first`] for the first.
    """
    answers = _asked(bundle.predict, items, where, first)
    return [columns(bundle, item, answer) for item, answer in zip(items, answers, strict=True)]


def explained(bundle: Bundle, items: Sequence[Any], best: int | None = None, first: int = 0) -> list[Explanation]:
    """As `answered`, with explanations: see `components.tasks.explanation.Explanation`, also for `best`.

    Raises:
        UserError: see `Bundle.explain`.
    """
    explanations = _asked(lambda items: bundle.explain(items, best), items, "inputs", first)
    for item, explanation in zip(items, explanations, strict=True):  # one at a time, as they were explained
        explanation.answer = answered(bundle, [item], first=first)[0]
    return explanations


def states(bundle: Bundle, items: Sequence[Any], first: int = 0) -> list[dict[str, np.ndarray]]:
    """See `Bundle.states`; items are named by their index."""
    return _asked(bundle.states, items, "inputs", first)


def _asked(ask: Callable[[Sequence[Any]], list[Any]], items: Sequence[Any], where: str, first: int) -> list[Any]:
    """Call `ask` on the items; errors name an item by its index."""
    try:
        return ask(items)
    except UserError as error:
        number = re.match(r"item (\d+)", error.where or "")
        place = f"{where}[{first + int(number[1]) - 1}]" if number else error.where
        raise UserError(error.what, where=place, hint=error.hint) from error


def columns(bundle: Bundle, item: Any, answer: Any) -> dict[str, Any]:
    """An answer with the names of `Task.columns`; tags of a text are preceded by its tokens."""
    if isinstance(answer, Mapping):
        return dict(answer)
    (name,) = bundle.task.columns
    named = {name: answer if isinstance(answer, str) else list(answer)}
    encoding = input_of(bundle.encoding)
    if isinstance(item, str) and has_tokens(bundle) and splits(encoding):
        return {"tokens": encoding.split(item), **named}
    return named


def has_tokens(bundle: Bundle) -> bool:
    """Whether tags of a text come with its tokens."""
    return "tags" in bundle.task.columns and splits(input_of(bundle.encoding))


def _numbers(given: Any, where: str) -> np.ndarray:
    if isinstance(given, str | bytes | Mapping):
        raise UserError(f"frames must be lists of numbers, not {type(given).__name__}", where=where)
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise UserError("some numbers are masked", where=where, hint="fill missing values first: array.filled(…)")
    if isinstance(given, np.ndarray) and given.dtype.kind in "fiub" and given.ndim != 1:
        return given
    try:
        found = np.array(_listed(given), dtype=np.float64)
    except OverflowError:
        raise UserError("frames must be numbers below 1e308", where=where) from None
    except (TypeError, ValueError) as error:
        uneven = "inhomogeneous" in str(error)
        what = "all frames must have the same length" if uneven else "frames must be lists of numbers"
        raise UserError(what, where=where) from None
    if found.ndim == 1:
        what = "is one list of numbers: an input is a list of frames, each a list of numbers"
        raise UserError(what, where=where, hint="[[0.5], [0.7]] has two frames; [[0.5, 0.7]] has one")
    return found


def _listed(given: Any) -> Any:
    """Convert arrays of arrays, as passed by MLflow, to lists."""
    if isinstance(given, list | tuple) or (isinstance(given, np.ndarray) and given.dtype == object):
        return [_listed(one) for one in given]
    if isinstance(given, str | bytes):  # NumPy reads "0.5" as a number
        raise TypeError(f"{given!r} is a text")
    return given


def _sound(given: Any, where: str) -> Any:
    from components.datasets.media.audio import parse_wav, read_wav, wav_from_base64

    if isinstance(given, Path):
        return read_wav(given)
    if isinstance(given, str):
        return wav_from_base64(given, where=where)
    if isinstance(given, bytes):
        return parse_wav(given, where=where)
    if isinstance(given, tuple) and len(given) == 2:
        return given
    hint = "give the bytes of a WAV file, its path, or (samples, sample rate)"
    raise UserError(f"a recording can't be of type {type(given).__name__}", where=where, hint=hint)
