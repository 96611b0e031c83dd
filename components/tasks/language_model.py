"""Language model: P(x⟨t⟩ | x⟨1⟩ … x⟨t−1⟩) for the next token of a text or a piece of music (one-to-many).

Metrics: nats per token (by its unit: nats_per_char, nats_per_word, nats_per_token), the same in bits, per other
units of the encoding (nats_per_frame), perplexity, accuracy. All tokens of a sequence count, including its end, but not
given tokens at its beginning (the label of a conditioned encoding): they are in the loss, so that the model can
choose them itself, but not in the metrics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import cross_entropy

from components.datasets.batches.truncated import Batch, Batches, batches
from components.datasets.store import Sequences
from components.encodings.base import Encoding
from components.encodings.copying import Copying, Formed
from components.encodings.meaning import meaning_of
from components.encodings.sections import Sections
from components.encodings.vocabulary import BOS, PAD
from components.errors import UserError
from components.generation.constraint_texts import parse_constraints
from components.generation.constraints import Constrained
from components.generation.draft import Draft, Sampler
from components.generation.given import FREE, given_ids, restricted
from components.generation.infill import rewrite
from components.generation.region import Piece
from components.generation.sampling import begun, sample
from components.generation.settings import Progress, Sampled, Settings, unwatched
from components.layers.base import State, steps_where
from components.layers.softmax import FullSoftmax
from components.models.graph_model import GraphModel
from components.models.sequence_model import SequenceModel
from components.models.states import arrays, watched
from components.score import Chord
from components.tasks.activation import activation_penalty
from components.tasks.base import Finding, Made, Surprise, Tally, Task, cut_off, exp_mean, to_device
from components.tasks.surprise import excerpt, judged, surprise

MOST_CONTEXTS = 16  # streams of an encoding that a recipe's graph may name
Weight = Annotated[float, Field(ge=0, le=1000)]


class _Rehearsal(Sampler):
    """Replaces the model to check generation settings."""

    def sample(self, draft: Draft) -> list[Sampled]:
        if not draft.piece:
            begun(draft)
        return []


class LanguageModel(Task):
    """`framing` is the store's: "stream" for one long text, "sequences" for separate sequences.

    Two penalties in the training loss, per token (Merity et al. 2018): `activation_regularization` times the mean
    square of the last layer's outputs after dropout; `temporal_activation_regularization` times the mean square of
    their change from one step to the next. 2 and 1 are usual with 400 or more units.
    """

    form = "tokens"
    model = SequenceModel
    settings = Settings

    def __init__(
        self,
        encoding: Encoding,
        framing: str,
        /,
        *,
        activation_regularization: Weight = 0.0,
        temporal_activation_regularization: Weight = 0.0,
    ) -> None:
        self.encoding, self.framing = encoding, framing
        self.penalties = {"activation": activation_regularization, "temporal": temporal_activation_regularization}
        self.read: Encoding = encoding  # of the model's inputs, which for a model that copies include candidates
        self.primary = f"nats_per_{encoding.unit}"
        self.loss_unit = f"nats per {encoding.unit} or label" if encoding.given else ""

    @classmethod
    def model_kinds(cls) -> dict[str, list[Any]]:
        return super().model_kinds() | {"graph": [GraphModel]}

    @classmethod
    def check_graph(cls, options: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
        return GraphModel.check(
            options, ["tokens", *(f"context_{n}" for n in range(MOST_CONTEXTS))], ["logits"], problems
        )

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        self.read = Copying(self.encoding) if options.get("copy") else self.encoding
        size, context_sizes = len(self.encoding.vocabulary), self.read.context_sizes
        penalised = any(self.penalties.values())
        if penalised and options["kind"] == "graph":
            what = "can't be used with a graph, which has no last layer"
            raise UserError(what, where="task.activation_regularization", hint="set the task's regularizations to 0")
        if options.get("softmax") == "sampled":
            self.loss_unit = f"nats per {self.encoding.unit}, sampled"
        if penalised:
            self.loss_unit = f"{self.loss_unit or f'nats per {self.encoding.unit}'}, with penalties"
        if options["kind"] != "graph":
            return SequenceModel(size, context_sizes, self.read.copy_places, **options)
        streams = {"tokens": size} | {f"context_{n}": streamed for n, streamed in enumerate(context_sizes)}
        return GraphModel(streams, {"logits": size}, **{k: v for k, v in options.items() if k != "kind"})

    def batches(self, sequences: Sequences, *, batch_size: int, window: int, seed: int, training: bool) -> Batches:
        return batches(
            self.framing,
            sequences,
            self.read,
            batch_size=batch_size,
            window=window,
            seed=seed,
            training=training,
        )

    def loss(self, model: nn.Module, batch: Batch, state: State | None) -> tuple[Tally, State]:
        # no lengths, here and in `judged`: a causal model's outputs don't depend on the padding after a row's end, and
        # the state of an ended row isn't used
        inputs_BTS = to_device(batch.inputs_BTS, model)
        targets_BT = torch.as_tensor(batch.targets_BT)  # on the CPU, where some heads need them, or in a CUDA graph
        if isinstance(model, SequenceModel):
            y_BTH, state = model.recurrent(model.rows(inputs_BTS), state)
            dropped_BTH = model.dropout(y_BTH)
            nats = model.head.loss(dropped_BTH, targets_BT, PAD, *model.beside(inputs_BTS))
            if model.training and any(self.penalties.values()):
                nats = nats + activation_penalty(dropped_BTH, y_BTH, targets_BT != PAD, **self.penalties)
        else:
            logits_BTV, state = model(inputs_BTS, state)
            targets_N = to_device(targets_BT, model).flatten()
            nats = cross_entropy(logits_BTV.flatten(0, 1).float(), targets_N, ignore_index=PAD, reduction="sum")
        return Tally(nats, (targets_BT != PAD).sum()), state

    def capturable(self, model: nn.Module) -> bool:
        return isinstance(model, SequenceModel) and type(model.head) is FullSoftmax

    def measure(self, model: nn.Module, batch: Batch, state: State | None) -> tuple[dict[str, Tally], State]:
        inputs_BTS, targets_BT = to_device(batch.inputs_BTS, model), to_device(batch.targets_BT, model)
        nats_BT, best_BT, state = judged(model, inputs_BTS, targets_BT, state)
        counted_BT = torch.from_numpy(batch.targets_BT != PAD)
        if batch.fresh:
            counted_BT[:, : self.encoding.given] = False
        right_N, nats_N = steps_where(best_BT == targets_BT, counted_BT), steps_where(nats_BT, counted_BT)
        correct, nats = torch.stack([right_N.double().sum(), nats_N.double().sum()]).tolist()
        count, unit = int(counted_BT.sum()), self.encoding.unit
        metrics = {
            f"nats_per_{unit}": Tally(nats, count),
            f"bits_per_{unit}": Tally(nats / math.log(2), count),
            "perplexity": Tally(nats, count, exp_mean),
            "accuracy": Tally(int(correct), count),
        }
        for other, units in batch.units.items():
            metrics[f"nats_per_{other}"] = Tally(nats, units)
        return metrics, state

    def generate(self, model: nn.Module, settings: Settings, *, seed: int, progress: Progress = unwatched) -> Made:
        """Sequences that continue the prompt and meet the constraints.

        Raises:
            UserError: a text stream has no prompt; the encoding doesn't support a constraint.
        """
        prompt_ids, warnings = self.encoding.prompt(settings.prompt)
        piece = self.kept(settings)
        encoding, sections = self.formed(model, settings, settings.bars)
        bars = self.bars(settings, sections)
        encoding, prompt_ids = restricted(self.encoding, encoding, bars, settings, prompt_ids)
        if self.framing == "stream" and not len(prompt_ids):
            raise UserError(
                "this model needs a prompt to continue", where="generation.prompt", hint="give --prompt TEXT"
            )
        sampled, told = self.drawn(model, encoding, piece, prompt_ids, settings, (), seed=seed, progress=progress)
        if bars or settings.seconds:
            warnings += cut_off(sampled, settings)
        return Made([self.encoding.decode(one.ids) for one in sampled], sampled, warnings + told, sections)

    def formed(self, model: nn.Module, settings: Settings, bars: int) -> tuple[Encoding, Sections | None]:
        """The encoding for sampling, with the settings' strengths of patterns and form, and the form, of `bars` bars
        (0: unknown).

        Raises:
            UserError: the model can't copy, the form can't be parsed or doesn't fit the bars, or a file is given too.
        """
        copies = isinstance(self.read, Copying) or (isinstance(model, _Rehearsal) and bool(self.encoding.copy_lags))
        patterns, read = settings.pattern_strength, self.read
        if patterns:
            if not copies or self.encoding.copy_places == len(self.encoding.copy_lags):
                hint = "set it to 0, or train with model.copy and encoding.patterns: true, as the recipe jazz does"
                raise UserError("this model can't copy patterns", where="generation.pattern_strength", hint=hint)
            read = Copying(self.encoding, patterns)
        if not settings.form:
            return read, None
        if not copies:
            hint = "train a model with model.copy: true, as the recipe lead-sheets does"
            raise UserError("this model can't repeat sections", where="generation.form", hint=hint)
        if settings.given and not settings.rewrite:
            what = "can't be used together with a file to continue"
            raise UserError(what, where="generation.form", hint="leave one of the two out")
        sections = Sections.read(settings.form, bars)
        if settings.rewrite:  # the piece has this form already
            return read, sections
        strength = settings.form_strength
        return Formed(self.encoding, sections, strength, patterns) if strength else read, sections

    def bars(self, settings: Settings, sections: Sections | None) -> int:
        """The required number of bars of a planned piece; 0: the model's choice, or unchanged."""
        if settings.rewrite:
            return 0
        return settings.bars or (sections.total if sections and getattr(self.encoding, "planned", False) else 0)

    def drawn(
        self,
        model: nn.Module,
        encoding: Encoding,
        piece: Piece | None,
        prompt_ids: np.ndarray,
        settings: Settings,
        chords: Sequence[Chord],
        *,
        seed: int,
        progress: Progress,
    ) -> tuple[list[Sampled], list[str]]:
        """Sampled sequences that continue the prompt, or the rewritten piece, with the constraints and over `chords`;
        and a report on relaxed constraints."""
        rules = None
        if settings.constraints:
            rules = parse_constraints(settings.constraints, meaning_of(self.encoding, chords))
            encoding = Constrained(encoding, rules)
        framed, ids = self.framing == "sequences", prompt_ids.tolist()
        draft = Draft(encoding, ids, settings, seed=seed, framed=framed, piece=piece, progress=progress)
        sampled = (rewrite if piece else sample)(model, draft)
        return sampled, rules.report() if rules else []

    def kept(self, settings: Settings) -> Piece | None:
        """The piece to rewrite a part of; None without `rewrite` in the settings.

        Raises:
            UserError: there is no piece, or it has no such part; a prompt is given too.
        """
        if not settings.rewrite:
            return None
        if not settings.given or FREE in settings.given:
            raise UserError("needs a complete piece to rewrite", where="rewrite", hint="give it with --keep FILE")
        if settings.bars and not settings.form:  # with a form, they were divided among its sections
            what = "can't be used together with rewrite: the piece keeps its length"
            raise UserError(what, where="generation.bars", hint="set it to 0")
        given_ids(self.encoding, settings)  # raises if they aren't ids of the encoding
        return Piece.read(settings.rewrite, self.encoding, settings.given)

    def rehearse(self, settings: Settings) -> list[str]:
        return self.generate(_Rehearsal(), settings, seed=0).warnings  # type: ignore[arg-type]

    def beginning(self, train: Sequences) -> str:
        """The first token that isn't blank."""
        if self.framing != "stream":
            return ""
        return next((text for id in train.tokens[:1000] if (text := self.encoding.decode([id])).strip()), "")

    def originals(self, split: Sequences) -> list[Any]:
        return [self.encoding.decode(ids) for ids in split]

    def baselines(self, train: Sequences, test: Sequences) -> dict[str, float]:
        """Nats per token of a uniform and a unigram model, the latter with add-one smoothing."""
        counts_V, test_V = self._counts(train) + 1.0, self._counts(test)
        nats_V = -np.log(counts_V / counts_V.sum())
        unigram = float(nats_V @ test_V / test_V.sum()) if test_V.any() else math.nan
        return {"uniform": math.log(len(counts_V)), "unigram": unigram}

    def _counts(self, sequences: Sequences) -> np.ndarray:
        """How often the metrics count each token, int64 [V], without BOS and the given tokens of sequences."""
        size = len(self.encoding.vocabulary)
        counts = sequences.counts(size)
        if self.framing != "stream":
            for place in range(1 + self.encoding.given):
                counts -= np.bincount(sequences.tokens[sequences.offsets[:-1] + place], minlength=size)
        return counts

    @torch.inference_mode()
    def states(self, model: nn.Module, item: Any) -> dict[str, np.ndarray]:
        """The model's activations while it reads the item, a sequence after BOS."""
        ids = np.asarray(self.encoding.encode(item), dtype=np.int64)
        ids = np.concatenate([[BOS], ids]) if self.framing == "sequences" else ids
        streams = np.concatenate([ids[:, None], self.read.context(ids)], axis=-1)
        with watched(model) as found:
            model.outputs(to_device(streams[None], model))
        return {"tokens": np.array([self.encoding.vocabulary.token(int(id)) for id in ids])} | arrays(found)

    def findings(self, model: nn.Module, split: Sequences) -> list[Finding]:
        """The nats of each token of the split's first sequence."""
        if not len(split):
            return []
        ids = excerpt(split[0])
        told = self.encoding.given
        nats = surprise(model, self.read, ids)
        return [Surprise("surprise", "surprise on held-out data", ids[told:], nats[told:])]
