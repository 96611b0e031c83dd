"""The API's schema: requests and responses. Unknown fields are refused."""

from __future__ import annotations

from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from components.bounds import MAX_CHARACTERS, MAX_EXPLAINED, MAX_INPUTS, MAX_STEPS
from components.options import generation_targets, options_of
from components.registry import names
from components.use.opening import PATTERN

MOST_FIELDS = 100  # in an object
Base64 = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]+={0,2}$", max_length=6 << 20, examples=["TVRoZA=="])]
Selector = Annotated[
    str,
    Field(
        pattern=PATTERN,
        description="NAME (its champion), NAME@champion, NAME@3 or NAME@latest",
        examples=["chorales@champion"],
    ),
]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, values: Any) -> Any:
        """Take 2.0 for an integer: JSON has one number type. Refuse an object with very many fields in one error."""
        if isinstance(values, dict) and len(values) > MOST_FIELDS:
            raise ValueError(f"too many fields: {len(values):,}")
        return {name: _as_whole(value) for name, value in values.items()} if isinstance(values, dict) else values


def _as_whole(value: Any) -> Any:
    if isinstance(value, list):
        return [int(one) if isinstance(one, float) and one.is_integer() else one for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _listed(annotation: Any) -> Any:
    """Tuples of settings classes as lists: JSON has no tuples."""
    if get_origin(annotation) is tuple:
        return Annotated[list[get_args(annotation)[0]], Field(max_length=100_000, fail_fast=True)]
    return annotation


def settings_fields(targets: list[Any]) -> dict[str, Any]:
    """Name → type of the settings of the classes."""
    return {name: _listed(annotation) for target in targets for name, (annotation, _) in options_of(target).items()}


def _all_settings() -> type[BaseModel]:
    """The settings of all tasks that generate. A model takes those of its task, within that task's bounds."""
    fields: dict[str, Any] = {}
    for name in names("task"):
        for setting, annotation in settings_fields(generation_targets({"kind": name})).items():
            fields.setdefault(setting, (annotation | None, None))
    return create_model("GenerationSettings", __base__=Strict, **fields)


GenerationSettings = _all_settings()


class Upload(Strict):
    """A file: its name, whose extension gives the format, and its bytes."""

    name: Annotated[str, Field(min_length=1, max_length=200, examples=["melody.mid"])]
    base64: Base64


class GenerateRequest(Strict):
    model: Selector
    settings: GenerationSettings = Field(  # type: ignore[valid-type]
        default_factory=GenerationSettings,
        description="Override those of the model's recipe; GET /models/{model} lists them.",
        examples=[{"count": 2, "temperature": 0.9, "max_length": 200}],
    )
    seed: Annotated[int, Field(ge=0, lt=2**53)] | None = Field(  # the integers that every JSON parser keeps exactly
        None, description="The same seed gives the same sequences (default: a random seed)."
    )
    melody: Upload | None = Field(None, description="A music file to harmonise.")
    start: Upload | None = Field(None, description="A music file to continue.")
    keep: Upload | None = Field(None, description="A music file; the part given by settings.rewrite is regenerated.")


class Wav(Strict):
    """A recording, for models of audio."""

    wav_base64: Base64


# fail_fast: a list of a million wrong values is one error
Number = Annotated[float, Field(ge=-1e30, le=1e30)]
Row = Annotated[list[Number], Field(min_length=1, max_length=100_000, fail_fast=True)]
Picture = Annotated[list[Row], Field(min_length=1, max_length=10_000, fail_fast=True)]
Word = Annotated[str, Field(max_length=1000)]


Time = Annotated[str, Field(max_length=40, examples=["2024-01-01 00:00"])]


class GivenSeries(Strict):
    """A series to forecast: its values, and the time of the first or of all of them."""

    values: Annotated[list[Number], Field(min_length=1, max_length=MAX_STEPS, fail_fast=True)]
    start: Time | None = None
    times: Annotated[list[Time], Field(max_length=MAX_STEPS, fail_fast=True)] | None = None
    covariates: dict[str, Annotated[list[Number], Field(max_length=2 * MAX_STEPS, fail_fast=True)]] | None = Field(
        None, description="By name: for the steps of the values and the steps to forecast."
    )
    name: Annotated[str, Field(max_length=1000)] | None = None


Input = (
    Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]
    | Wav
    | GivenSeries
    | Annotated[list[Word], Field(min_length=1, max_length=MAX_STEPS, fail_fast=True)]
    | Annotated[list[Row], Field(min_length=1, max_length=MAX_STEPS, fail_fast=True)]
    | Annotated[list[Picture], Field(min_length=1, max_length=MAX_STEPS, fail_fast=True)]
)


def _inputs(most: int) -> Any:
    about = "Texts, lists of symbols, frames (lists of numbers, or of rows of pixels), recordings or series."
    examples = [["a gripping , moving film", "a mess"]]
    bounds = Field(min_length=1, max_length=most, fail_fast=True, description=about, examples=examples)
    return Annotated[list[Input], bounds]


class PredictRequest(Strict):
    model: Selector
    inputs: _inputs(MAX_INPUTS)  # type: ignore[valid-type]


class ExplainRequest(Strict):
    model: Selector
    inputs: _inputs(MAX_EXPLAINED)  # type: ignore[valid-type]
    best: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="Maximum number of choices (default: all labels, or the whole beam)."
    )


class ScoreRequest(Strict):
    model: Selector
    texts: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]],
        Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True, examples=[["To be, or not to be"]]),
    ]


class Problem(BaseModel):
    """Why a request is refused: what is wrong, where, and how to fix it."""

    error: str
    where: str | None
    hint: str | None


class Health(BaseModel):
    status: str = Field(examples=["ok"])
    version: str
    models_in_memory: list[str]
    requests: int = Field(description="running now")


class Version(BaseModel):
    version: str
    aliases: list[str]


class Model(BaseModel):
    name: str
    versions: list[Version] = Field(description="newest first")
    default: str | None = Field(description="the version that NAME alone means, its champion; None: there is none")


class Models(BaseModel):
    models: list[Model]


class Description(BaseModel):
    """A version's task, inputs, outputs and settings."""

    name: str
    version: str
    task: str
    writes: str | None = Field(description="what it generates: text, notes or strokes; None: it predicts")
    reads: str | None = Field(description="its inputs: text, symbols, frames, audio or series; None: it generates")
    answers: str | None = Field(description="the kind of its predictions; None: it generates")
    features: int | None = Field(description="numbers in an input frame; None: its inputs aren't frames, or are images")
    accepts: list[str] = Field(description="what a request may start from: prompt, chords, melody, start, keep")
    voices: list[str] = Field(description="names for settings.rewrite; empty: the model can't rewrite")
    settings: dict[str, Any] = Field(description="name → JSON schema, whose default is the one of the model's recipe")
    trained_on: str
    metrics: dict[str, float] = Field(description="on test data, when the version was registered")


class Item(BaseModel):
    number: int = Field(description="from 1; sequence n of a seed doesn't depend on count")
    text: str
    nats_per_token: float | None = Field(description="negative log-likelihood; None: no token was sampled")
    ended: bool = Field(description="whether the model generated an end token")
    score: dict[str, Any] | None = Field(description="notes: grid, tempo, parts with [start, duration, pitch]")
    midi_base64: str | None
    files: dict[str, str] = Field(description="kind → URL, until the piece expires")
    given: list[int] | None = Field(
        description="notes: the piece's tokens. Send them as settings.given, with given_ends, to rewrite the part that "
        "settings.rewrite names; None: the model can't"
    )


class Generated(BaseModel):
    model: str
    version: str
    seed: int
    settings: dict[str, Any] = Field(description="all settings: with model, version and seed they reproduce the items")
    warnings: list[str]
    items: list[Item]


class Likelihood(BaseModel):
    """How likely a text is to the model. The end of a sequence counts as a token; the first token of a text doesn't."""

    nats_per_token: float
    bits_per_token: float
    perplexity: float
    unknown: int = Field(description="tokens outside the vocabulary, each scored as <UNK>")
    tokens: list[str]
    nats: list[float] = Field(description="of each token, given all tokens before it")


class OfInputs(BaseModel):
    model: str
    version: str
    warnings: list[str] = Field(description="problems of the inputs")


class ScoredTexts(OfInputs):
    unit: str = Field(description="what a token is", examples=["char"])
    scores: list[Likelihood] = Field(description="in the order of the texts")


class Answered(OfInputs):
    answers: list[dict[str, Any]] = Field(
        description="in the order of the inputs: {label, probability}, {values}, {tags} or {text}; for a text {tokens, "
        "tags}; for a series a list for each of {time, mean, q0.1, …, q0.9}"
    )


class Map(BaseModel):
    """Numbers by row and column: attention, alignment, or contributions."""

    title: str
    rows: list[str]
    columns: list[str]
    values: list[list[float]]


class Explained(BaseModel):
    """An answer with its explanation."""

    answer: dict[str, Any] = Field(description="as from POST /predict")
    choices: list[dict[str, Any]] = Field(description="the possible answers, likeliest first")
    positions: list[dict[str, Any]] = Field(description="a row for each step of the input or the output")
    words: list[dict[str, Any]] = Field(description="speech: the time of each word")
    totals: list[dict[str, Any]] = Field(description="the sums of the contributions of the positions")
    matrix: Map | None


class ExplainedAnswers(OfInputs):
    explanations: list[Explained] = Field(description="in the order of the inputs")
