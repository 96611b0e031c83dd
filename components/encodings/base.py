"""The Encoding contract: items (strings, scores, frames) to arrays and back.

Keyword-only parameters of an encoding's constructor are its settings in a recipe. `fit` learns the rest (the
vocabulary) from the training data. `state()` holds both and rebuilds the encoding exactly. It is stored with the model,
so generation uses the same vocabulary as training.
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
from components.options import checked_options, options_of
from components.registry import resolve


@dataclass(frozen=True)
class Field:
    """One array of an encoded item: ids [T] below `size`; ids [T, width] below `size` if both are set (a word and its
    letters); or float32 [T, width]."""

    size: int = 0
    width: int = 0

    @property
    def frames(self) -> bool:
        """Whether each step is a vector of numbers."""
        return not self.size


class Encoding(ABC):
    """Items to ids [T] (or frames [T, width]) and back. BOS and EOS are added by ingestion.

    Settings of several encodings. Tokens seen fewer than `min_count` times in the training data become UNK.
    `lowercase`: text is converted to lower case.
    """

    kind: ClassVar[str]  # name in the registry
    form: ClassVar[Literal["tokens", "frames", "pairs", "streams", "series", "strokes"]] = (
        "tokens"  # what a task must be able to read
    )
    unit: ClassVar[str] = "token"  # what one token is, for metric names: char, word, token
    # input of a model: a string, a list of strings, numbers [T, …], a sound, or values and their times; see
    # `components.answers`
    reads: ClassVar[Literal["text", "symbols", "frames", "audio", "series"]] = "text"
    pairs: ClassVar[bool] = False  # items are (input, target), from a reader of pairs
    performed: ClassVar[str] = ""  # performances that a model can continue: drums or piano
    given: ClassVar[int] = 0  # number of first tokens that are input (a label); metrics leave them out
    context_sizes: tuple[int, ...] = ()  # sizes of the context features (see `context`)
    prefix: int = 0  # tokens after BOS with properties of the piece (metre, length): sampled as in training
    copy_lags: tuple[int, ...] = ()  # how far back `copies` looks, in bars or beats; empty: no copying
    copy_places: int = 0  # number of copy candidates: first one for each lag
    copy_classes: int = 0  # number of match classes, see `copies`
    known_words: int = 0  # words of the file model.vectors that are known besides those of training
    vectors_words: Sequence[str] = ()  # those words, set before `fit`
    vocabulary: Vocabulary = Vocabulary(SPECIALS)

    @property
    def fields(self) -> dict[str, Field]:
        """The arrays that `encode` returns, by name; available after `fit`. A single array is returned without name."""
        return {"tokens": Field(size=len(self.vocabulary))}

    def fit(self, items: Iterable[Any]) -> None:  # noqa: B027 - a fixed vocabulary has nothing to learn
        """Learn the vocabulary from the training items (no-op if the vocabulary is fixed). May iterate over `items`
        more than once."""

    @property
    def step_shape(self) -> tuple[int | None, ...]:
        """Shape of one input frame, (features,); None stands for any number."""
        return ()

    @abstractmethod
    def encode(self, item: Any) -> Any:
        """The item's ids, int64 [T], without BOS and EOS; or frames, float32 [T, width]. Pairs give an array for each
        field, streams an array for each field with BOS and EOS."""

    @abstractmethod
    def decode(self, ids: Sequence[int] | np.ndarray) -> Any:
        """The item for the ids. Never raises on ids of the vocabulary; specials are skipped."""

    def cut(self, item: Any, position: int) -> int:
        """The best position near `position` to cut a streamed item: `encode(a + b) == encode(a) + encode(b)`."""
        return position

    def prompt(self, text: str) -> tuple[np.ndarray, list[str]]:
        """The ids [T] of a typed prompt, without BOS, and warnings about what couldn't be read."""
        doubts = Doubts()
        ids = self.encode(spelled(self, text, "the prompt", doubts))
        unknown = int((ids == UNK).sum())
        said = f"{unknown} of {len(ids)} {self.unit}s of the prompt are unknown to the model (read as <UNK>)"
        return ids, [*doubts.lines(), *[said] * bool(unknown)]

    def with_melody(self, melody: Any) -> np.ndarray:
        """The ids [T] of a piece with the given melody (a score), −1 where the other voices are to be generated.

        Raises:
            UserError: this encoding has no voices besides the melody, or can't encode this melody.
        """
        raise UserError(
            f"the encoding {self.kind} can't write voices under a melody",
            where="melody",
            hint="use a chorale model: reprise run chorales",
        )

    def onwards(self, start: Any) -> np.ndarray:
        """The ids [T] of the beginning of a piece, for a model to continue."""
        return self.encode(start)

    def timeline(self, ids: np.ndarray) -> Timeline:
        """Voice and time of each of a piece's ids [T] (without BOS), for rewriting parts of it.

        Raises:
            UserError: this encoding doesn't support it.
        """
        raise UserError(
            f"models with the encoding {self.kind} can't rewrite a part of a piece",
            where="rewrite",
            hint="use a model of the recipe chorales or lead-sheets: reprise run chorales",
        )

    def with_bars(self, bars: int, begun: np.ndarray) -> np.ndarray:
        """The first ids [T] of a piece with `bars` bars that begins with the ids `begun`, −1 where the model chooses.

        Raises:
            UserError: the encoding has no plan of the length.
        """
        hint = "train a model with encoding.planned: true, as in the recipes chorales and lead-sheets"
        raise UserError("this model can't be given a length in bars", where="generation.bars", hint=hint)

    def with_seconds(self, seconds: int) -> np.ndarray:
        """The first ids [T] of a piece of this length.

        Raises:
            UserError: the encoding has no plan of the length.
        """
        hint = "train a model with encoding.kind: performance and encoding.planned: true, as in the recipe piano"
        raise UserError("this model can't be given a length in seconds", where="generation.seconds", hint=hint)

    def drawn_form(self, bars: int, seed: int) -> str:
        """A form of `bars` bars (0: any), as in "AABB", drawn from those of the training pieces; "": none."""
        return ""

    def doubts(self, melody: Any) -> list[str]:
        """Warnings about a score that isn't kept exactly by `with_melody` or `onwards`."""
        return []

    def context(self, ids: np.ndarray) -> np.ndarray:
        """Context features of each of the ids [T] (BOS first): int64 [T, C], sizes as in `context_sizes`.

        They describe the position of the next token: beat, voice, notes that sound. They depend on the past only,
        `context(ids[:t]) == context(ids)[:t]`, so they are also available in generation.
        """
        return np.zeros((len(ids), len(self.context_sizes)), dtype=np.int64)

    def copies(self, ids: np.ndarray, sections: Sections | None = None) -> tuple[np.ndarray, ...]:
        """Candidates for copying and the classes of their matches, both int64 [T, L], for the ids [T] (BOS first) and
        the L `copy_places`.

        An encoding of several streams gives L candidates for each, stream after stream, and reads ids [T, streams].

        The candidate is the token one lag before the position of the next token (PAD: none). The class says how many of
        the latest notes matched their candidates (`components.encodings.copying`). Lags are `copy_lags`, with
        `sections` `Sections.lags`. Depends on the past only, as `context` does.
        """
        none = np.zeros((len(ids), self.copy_places), dtype=np.int64)
        return none, none

    def bar_reached(self, ids: np.ndarray) -> tuple[int, int]:
        """The bar of the token after the ids [T] (BOS first), from 0 (negative: an upbeat), and the length of a bar in
        the unit of `copy_lags`. Only for encodings with `copies`."""
        raise NotImplementedError(self.kind)

    def against(self, ids: np.ndarray, sections: Sections) -> np.ndarray:
        """Which tokens after the ids [T] would make sections that don't line up with each other: bool [V]."""
        return np.zeros(len(self.vocabulary), dtype=bool)

    def leanings(self, ids: np.ndarray) -> np.ndarray | None:
        """Bias that sampling adds to the logarithms of the L gates of a copying model after the ids [T]: float64 [L];
        None: no bias."""
        return None

    def allowed(self, ids: np.ndarray) -> np.ndarray:
        """Which tokens may follow the ids [T] (BOS first): bool [V], never all False."""
        mask = np.ones(len(self.vocabulary), dtype=bool)
        mask[[PAD, UNK, BOS]] = False
        return mask

    def augment(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """An augmented copy of the ids [T] of the same length, such as a transposition. Frames may change length."""
        return ids

    def counts(self, ids: np.ndarray) -> dict[str, int]:
        """Counts of other units that metrics are also reported in: {"frame": number of frames in ids [T]}."""
        return {}

    def labels_of(self, item: Any) -> Sequence[str]:
        """The labels of an item, if it has any: ingestion reports how often each occurs."""
        return ()

    def label(self, id: int) -> str:
        """A few characters that represent the token in a picture."""
        return self.vocabulary.token(id).replace("\n", "⏎").replace(" ", "·")

    def written(self, id: int) -> str:
        """The text of an id; "" for specials and unknown ids."""
        return self.vocabulary.token(id) if len(SPECIALS) <= id < len(self.vocabulary) else ""

    def pieces(self, item: Any) -> list[str]:
        """Readable text for each step of `encode(item)`: as in the item if known, else as in the vocabulary. [] if the
        steps are numbers."""
        if self.form != "tokens":
            return []
        return [self.label(int(id)) for id in np.asarray(self.encode(item))]

    def layout(self, ids: np.ndarray, columns: int = 64) -> list[list[int]]:
        """Indices of the ids [T] in rows, as drawn in a picture: line breaks begin new rows."""
        rows: list[list[int]] = [[]]
        for index, id in enumerate(ids):
            if len(rows[-1]) == columns:
                rows.append([])
            rows[-1].append(index)
            if self.label(int(id)).endswith("⏎"):
                rows.append([])
        return [row for row in rows if row]

    def options(self) -> dict[str, Any]:
        """The keyword arguments that rebuild this encoding, JSON-ready: each setting is an attribute of the same
        name."""
        values = {name: getattr(self, name) for name in options_of(type(self))}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def learned(self) -> dict[str, Any]:
        """What `fit` learned besides the vocabulary, as JSON-ready data."""
        return {}

    def remarks(self) -> list[str]:
        """Warnings about the training items, after `fit`: a sentence each."""
        return []

    def set_learned(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - most learn a vocabulary only
        """Restore the result of `learned`."""

    def state(self) -> dict[str, Any]:
        """Everything needed to rebuild the encoding, as JSON-ready data."""
        state = {"kind": self.kind, "options": self.options(), "vocabulary": self.vocabulary.state()}
        learned = self.learned()
        return state | {"learned": learned} if learned else state


class Wrapped(Encoding):
    """Wrapper of an encoding for sampling; subclasses restrict `allowed`."""

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
    """An encoding with a fixed vocabulary, `signs`; computations on ids depend on it. `planned`: the number of bars is
    the third token of a piece."""

    signs: Any
    planned: bool

    @property
    def vocabulary(self) -> Vocabulary:
        """The fixed vocabulary. Setting another one raises UserError."""
        return self.signs.vocabulary

    @vocabulary.setter
    def vocabulary(self, vocabulary: Vocabulary) -> None:
        if vocabulary != self.signs.vocabulary:
            name = self.kind.replace("_", "-")
            raise UserError(
                f"the stored vocabulary isn't the one that this version of the {name} encoding uses",
                where="encoding",
                hint="ingest the data and train the model again, or use the version of Reprise that wrote it",
            )

    def with_bars(self, bars: int, begun: np.ndarray) -> np.ndarray:
        if not self.planned:
            return super().with_bars(bars, begun)
        return np.array([*begun, *[-1] * (2 - len(begun)), self.signs.bars0 + bars - 1], dtype=np.int64)


def encoding_from_state(state: Mapping[str, Any]) -> Encoding:
    """Rebuild an encoding from its `state()`.

    Raises:
        UserError: `state` is invalid (a damaged file, or one of another version).
    """
    try:
        factory = resolve("encoding", state["kind"], where="encoding.kind")
        encoding = factory(**checked_options("encoding", state["options"], [factory]))
        encoding.vocabulary = Vocabulary.from_state(state["vocabulary"])
        encoding.set_learned(state.get("learned", {}))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        hint = "it was written by another version or is damaged: ingest the data again, or train the model again"
        raise UserError(f"the stored encoding can't be loaded ({error!r})", where="encoding", hint=hint) from error
    return encoding
