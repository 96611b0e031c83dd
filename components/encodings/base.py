"""The Encoding contract: items (strings, scores, frames) to arrays and back.

Keyword-only parameters of an encoding's constructor are its recipe schema. What is learned from the
training data (the vocabulary) is set by `fit` and travels in `state()`; the pair rebuilds the encoding
exactly, so it is stored with the model and generation can't use another vocabulary than training did.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from components.encodings.doubts import Doubts, spelled
from components.encodings.sections import Sections
from components.encodings.timeline import Timeline
from components.encodings.vocabulary import BOS, PAD, SPECIALS, UNK, Vocabulary
from components.errors import UserError
from components.options import options_of
from components.registry import resolve


@dataclass(frozen=True)
class Field:
    """One array of an encoded item: ids [T] below `size`, ids [T, width] below `size` where both are set (a word and
    its letters), or float32 [T, width]."""

    size: int = 0
    width: int = 0

    @property
    def frames(self) -> bool:
        """Are its steps vectors of numbers?"""
        return not self.size


class Encoding(ABC):
    """Items to ids [T] (or frames [T, width]) and back. Framing by BOS and EOS is the ingestion's business.

    Settings of several encodings. Tokens seen fewer than `min_count` times in the training data become UNK.
    `lowercase`: everything is read in lower case.
    """

    kind: ClassVar[str]  # its name in the registry
    form: ClassVar[Literal["tokens", "frames", "pairs", "streams", "series", "strokes"]] = (
        "tokens"  # what a task must be able to read
    )
    unit: ClassVar[str] = "token"  # what one token is, for metric names: char, word, token
    # what a model of it is given: a string, a list of strings, numbers [T, …], a sound, or values and their times; see
    # `components.answers`
    reads: ClassVar[Literal["text", "symbols", "frames", "audio", "series"]] = "text"
    pairs: ClassVar[bool] = False  # its items are (input, target), from a reader of pairs
    performed: ClassVar[str] = ""  # performances that a model of it can go on from: drums or piano
    given: ClassVar[int] = 0  # first tokens of a sequence that the model is told (a label): metrics leave them out
    context_sizes: tuple[int, ...] = ()  # sizes of the input streams beside the token (see `context`)
    prefix: int = 0  # tokens after BOS that say what a piece will be like (metre, length): sampled as in training
    copy_lags: tuple[int, ...] = ()  # how far back `copies` looks, in its own unit (bars, beats); none: it can't
    copy_places: int = 0  # that may be copied from: the lags first
    copy_classes: int = 0  # of matches, see `copies`
    known_words: int = 0  # so many words of the file model.vectors are known beside those of training
    vectors_words: Sequence[str] = ()  # those words, set before `fit`
    vocabulary: Vocabulary = Vocabulary(SPECIALS)

    @property
    def fields(self) -> dict[str, Field]:
        """The arrays that `encode` gives, by name, known once the encoding is fitted. One array is not named."""
        return {"tokens": Field(size=len(self.vocabulary))}

    def fit(self, items: Iterable[Any]) -> None:  # noqa: B027 - a fixed vocabulary has nothing to learn
        """Learn the vocabulary from the training items (a no-op where the vocabulary is fixed).

        `items` may be read more than once."""

    @property
    def step_shape(self) -> tuple[int | None, ...]:
        """Of what it reads as frames, the shape of one: (features,); None stands for any number."""
        return ()

    @abstractmethod
    def encode(self, item: Any) -> Any:
        """The item's ids, int64 [T], without BOS and EOS; frames, float32 [T, width]; a pair, an array a field;
        streams, an array a field with BOS and EOS."""

    @abstractmethod
    def decode(self, ids: Sequence[int] | np.ndarray) -> Any:
        """The item that the ids stand for. Total: never raises on ids inside the vocabulary; specials are skipped."""

    def cut(self, item: Any, position: int) -> int:
        """Where a streamed item is best cut, near `position`: there `encode(a + b) == encode(a) + encode(b)`."""
        return position

    def prompt(self, text: str) -> tuple[np.ndarray, list[str]]:
        """What a person typed to start from, as ids [T] without BOS, and warnings about what couldn't be read."""
        doubts = Doubts()
        ids = self.encode(spelled(self, text, "the prompt", doubts))
        unknown = int((ids == UNK).sum())
        said = f"{unknown} of {len(ids)} {self.unit}s of the prompt are unknown to the model: <UNK>"
        return ids, [*doubts.lines(), *[said] * bool(unknown)]

    def with_melody(self, melody: Any) -> np.ndarray:
        """The ids [T] of a piece around a given melody (a score), −1 where the other voices are to be written.

        Raises:
            UserError: this encoding has no voices beside the melody, or can't write this one down.
        """
        raise UserError(
            f"{self.kind} has no voices to write under a melody",
            where="melody",
            hint="a chorale model has: reprise run chorales",
        )

    def onwards(self, start: Any) -> np.ndarray:
        """The ids [T] of the beginning of a piece, for a model to go on from."""
        return self.encode(start)

    def timeline(self, ids: np.ndarray) -> Timeline:
        """Which of a piece's ids [T] (without BOS) is which voice at which time, for writing parts of it anew.

        Raises:
            UserError: that isn't known of this encoding's tokens.
        """
        raise UserError(
            f"{self.kind} doesn't know which of its tokens is which voice in which bar: no part can be written anew",
            where="rewrite",
            hint="models of the recipes chorales and lead-sheets can: reprise run chorales",
        )

    def with_bars(self, bars: int, begun: np.ndarray) -> np.ndarray:
        """The first ids [T] of a piece of so many bars that begins with the ids `begun`, −1 where the model chooses.

        Raises:
            UserError: the encoding doesn't plan its pieces.
        """
        hint = "train one with encoding.planned: true, as chorales and lead-sheets have"
        raise UserError("this model doesn't plan how long a piece is", where="generation.bars", hint=hint)

    def doubts(self, melody: Any) -> list[str]:
        """What a person should know of a melody (a score) that `with_melody` is given."""
        return []

    def context(self, ids: np.ndarray) -> np.ndarray:
        """What a model is told beside each of the ids [T] (BOS first): int64 [T, C], one column a stream.

        It says where the next token stands and what holds there: the beat and the voice, the notes that sound. A
        function of the past only, `context(ids[:t]) == context(ids)[:t]`, so it is there in generation too.
        """
        return np.zeros((len(ids), len(self.context_sizes)), dtype=np.int64)

    def copies(self, ids: np.ndarray, sections: Sections | None = None) -> tuple[np.ndarray, ...]:
        """For each of the ids [T] (BOS first) and each of the L `copy_places`, two arrays int64 [T, L]: the token that
        stood there where the next token comes (PAD: none did), so long ago as the `copy_lags` say, and how much of what
        was written since is the same, as a class (`components.encodings.copying`). With `sections` the lags are
        `Sections.lags`. A function of the past only, as `context` is."""
        none = np.zeros((len(ids), self.copy_places), dtype=np.int64)
        return none, none

    def bar_reached(self, ids: np.ndarray) -> tuple[int, int]:
        """The bar in which the token after the ids [T] (BOS first) stands, from 0 (before: an upbeat), and how many of
        the unit of `copy_lags` a bar has. Of encodings that say what could be copied."""
        raise NotImplementedError(self.kind)

    def against(self, ids: np.ndarray, sections: Sections) -> np.ndarray:
        """Which tokens after the ids [T] would leave sections that can't be laid over each other: bool [V]."""
        return np.zeros(len(self.vocabulary), dtype=bool)

    def leanings(self, ids: np.ndarray) -> np.ndarray | None:
        """What sampling adds to the logarithms of the L gates of a model that copies, after the ids [T]: float64 [L].
        None: nothing."""
        return None

    def allowed(self, ids: np.ndarray) -> np.ndarray:
        """Which tokens may follow the ids [T] (BOS first): bool [V], never all False."""
        mask = np.ones(len(self.vocabulary), dtype=bool)
        mask[[PAD, UNK, BOS]] = False
        return mask

    def augment(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A training variant of the ids [T], of the same length (a transposition, say); of frames maybe not."""
        return ids

    def counts(self, ids: np.ndarray) -> dict[str, int]:
        """Units other than the token that metrics are also given in: {"frame": number of frames in ids [T]}."""
        return {}

    def labels_of(self, item: Any) -> Sequence[str]:
        """The labels that an item carries, where it carries labels: ingestion tells how often each occurs."""
        return ()

    def label(self, id: int) -> str:
        """A few characters that stand for the token in a picture."""
        return self.vocabulary.token(id).replace("\n", "⏎").replace(" ", "·")

    def written(self, id: int) -> str:
        """What an id stands for as it is written; "" of the specials and what is unknown."""
        return self.vocabulary.token(id) if len(SPECIALS) <= id < len(self.vocabulary) else ""

    def pieces(self, item: Any) -> list[str]:
        """How a person may read each step of `encode(item)`: as it stands in the item where that is known, else as the
        vocabulary has it. [] where the steps are numbers."""
        if self.form != "tokens":
            return []
        return [self.label(int(id)) for id in np.asarray(self.encode(item))]

    def layout(self, ids: np.ndarray, columns: int = 64) -> list[list[int]]:
        """Indices of the ids [T] in rows as they are drawn in a picture: new lines begin new rows."""
        rows: list[list[int]] = [[]]
        for index, id in enumerate(ids):
            if len(rows[-1]) == columns:
                rows.append([])
            rows[-1].append(index)
            if self.label(int(id)).endswith("⏎"):
                rows.append([])
        return [row for row in rows if row]

    def options(self) -> dict[str, Any]:
        """The keyword arguments that rebuild this encoding, JSON-ready: its settings, each an attribute of its name."""
        values = {name: getattr(self, name) for name in options_of(type(self))}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def learned(self) -> dict[str, Any]:
        """What `fit` learned beside the vocabulary, as JSON-ready data."""
        return {}

    def remarks(self) -> list[str]:
        """What a person should know about the training items, after `fit`: a sentence each."""
        return []

    def set_learned(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - most learn a vocabulary only
        """Take back what `learned` gave."""

    def state(self) -> dict[str, Any]:
        """All that is needed to rebuild the encoding, as JSON-ready data."""
        state = {"kind": self.kind, "options": self.options(), "vocabulary": self.vocabulary.state()}
        learned = self.learned()
        return state | {"learned": learned} if learned else state


class Wrapped(Encoding):
    """Another encoding, whose `allowed` a subclass narrows: what sampling is given in its place."""

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        self.kind, self.unit, self.reads = encoding.kind, encoding.unit, encoding.reads
        self.vocabulary, self.context_sizes = encoding.vocabulary, encoding.context_sizes
        self.prefix = encoding.prefix

    def context(self, ids: np.ndarray) -> np.ndarray:
        return self.encoding.context(ids)

    def encode(self, item: Any) -> Any:
        return self.encoding.encode(item)

    def decode(self, ids: Sequence[int] | np.ndarray) -> Any:
        return self.encoding.decode(ids)

    def leanings(self, ids: np.ndarray) -> np.ndarray | None:
        return self.encoding.leanings(ids)

    def options(self) -> dict[str, Any]:
        return self.encoding.options()


class Signed(Encoding):
    """An encoding with the fixed vocabulary of its `signs`, on which the ids' arithmetic depends."""

    signs: Any

    @property
    def vocabulary(self) -> Vocabulary:
        """The fixed vocabulary. Setting another one is refused."""
        return self.signs.vocabulary

    @vocabulary.setter
    def vocabulary(self, vocabulary: Vocabulary) -> None:
        if vocabulary != self.signs.vocabulary:
            name = self.kind.replace("_", "-")
            raise UserError(
                f"the stored vocabulary isn't the one that this version of the {name} encoding uses",
                where="encoding",
                hint="ingest the data again and train the model again, or use the version that made it",
            )


def encoding_from_state(state: Mapping[str, Any]) -> Encoding:
    """The encoding that `state()` described.

    Raises:
        UserError: `state` describes none (a damaged file, or one of another version).
    """
    try:
        encoding = resolve("encoding", state["kind"], where="encoding.kind")(**state["options"])
        encoding.vocabulary = Vocabulary.from_state(state["vocabulary"])
        encoding.set_learned(state.get("learned", {}))
    except (KeyError, TypeError, ValueError) as error:
        hint = "it was stored by another version or is damaged: ingest the data again, or train the model again"
        raise UserError(f"the stored encoding can't be rebuilt ({error!r})", where="encoding", hint=hint) from error
    return encoding
