"""Translation: sequence to sequence (many-to-many, unequal), of words or of the characters of a date.

Shapes: B batch, T input steps, U target steps, N target tokens of a batch, A inputs of the head, V target vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field as Bounds
from torch import Tensor, nn

from components.datasets.batches.examples import ExampleBatch
from components.datasets.store import Examples
from components.encodings.pair import Pair
from components.encodings.vocabulary import BOS, EOS, PAD
from components.generation.beam import Hypothesis, LengthPenalty, beam_search
from components.kernels.head import cross_entropy
from components.layers.base import State, moved, steps_where
from components.models.encoder_decoder import EncoderDecoder
from components.tasks.base import Finding, Matrix, Table, Tally, lengths_to_device, to_device
from components.tasks.bleu import bleu_of, bleu_statistics, chrf, sentence_bleu
from components.tasks.examples import SHOWN, ExampleTask
from components.tasks.explanation import Explanation, check_best, step_rows

LOOKED_THROUGH = 2000  # rows of a split among which the table's worst are found
MAPS = 4  # pictures of attention
MOST_STEPS = 40  # of a sequence with a picture of attention
EXTRA = 10  # tokens of a translation beyond `max_ratio` times those of its input
LONGEST = 2000  # maximum tokens of a translation
TOGETHER = 1 << 17  # input steps of all hypotheses in a batch: some 400 MB at 512 features


@dataclass(frozen=True)
class Forced:
    """Inputs of the head for each of N target tokens, given the tokens before it (teacher forcing)."""

    y_NA: Tensor
    head: nn.Linear


class Translation(ExampleTask):
    """The model is trained to predict the target token by token, between BOS and EOS; it translates with a beam search
    of `beam_size`.

    Metrics while training: nats per token and token accuracy with teacher forcing; `bleu` and `exact`, the share of
    sequences without an error, of greedy decoding. At the end `beam_bleu`, `beam_chrf` and `beam_exact` of the beam
    search. BLEU is sacrebleu's lower-cased corpus BLEU on text (nrefs:1|case:lc|eff:no|tok:13a|smooth:exp), chrF
    likewise (case:lc|nc:6|nw:0). The reference is the decoded target: the original text with characters and subwords,
    while words outside a vocabulary are <UNK> and never correct.

    `label_smoothing` spreads that share of the target over all tokens (Szegedy et al. 2016), in the training loss, not
    in the metrics; `scheduled_sampling` is the share of the decoder's input tokens that are the model's own predictions
    in training (Bengio et al. 2015), which is then step by step. `length_penalty` is the score for ranking in the beam
    search: none, the log-probability, which favours short translations; average, per token; wu, divided by ((5 +
    length) / 6)^alpha. `alpha` is that exponent. A translation has at most `max_ratio` times the input's tokens and ten
    more, 2,000 in all. `primary` is the primary metric, for choosing the best weights.
    """

    model = EncoderDecoder
    columns = {"text": "text"}
    counted = "tokens"
    loss_unit = "nats per token"

    def __init__(
        self,
        encoding: Pair,
        framing: str,
        /,
        *,
        primary: Literal["bleu", "exact", "nats_per_token"] = "bleu",
        label_smoothing: Annotated[float, Bounds(ge=0, lt=1)] = 0.0,
        scheduled_sampling: Annotated[float, Bounds(ge=0, le=1)] = 0.0,
        beam_size: Annotated[int, Bounds(gt=0, le=100)] = 5,
        length_penalty: LengthPenalty = "wu",
        alpha: Annotated[float, Bounds(ge=0, le=10)] = 1.0,
        max_ratio: Annotated[float, Bounds(gt=0, le=100)] = 2.0,
    ) -> None:
        super().__init__(encoding, framing)
        self.primary, self.lower_is_better = primary, primary == "nats_per_token"
        self.label_smoothing, self.scheduled_sampling = label_smoothing, scheduled_sampling
        self.beam_size, self.length_penalty, self.alpha = beam_size, length_penalty, alpha
        self.max_ratio = max_ratio

    def outputs(self, model: nn.Module, batch: ExampleBatch) -> tuple[Forced, Tensor, Tensor]:
        """As in the base class, for the target's tokens, without padding."""
        before_BU, after_BU = framed(batch)
        state = model(self._inputs(model, batch.inputs), lengths_to_device(batch.lengths_B, model))
        own = self.scheduled_sampling if model.training else 0.0
        y_BUA, _ = model.forced(state, to_device(before_BU, model), own=own)
        counts_BU = after_BU != PAD
        y_NA = steps_where(y_BUA, torch.from_numpy(counts_BU))
        return Forced(y_NA, model.head), torch.from_numpy(after_BU[counts_BU]), torch.from_numpy(batch.lengths_B)

    def tally(self, outputs: Forced, targets: Tensor, lengths_B: Tensor) -> Tally:
        y_NA, head = outputs.y_NA, outputs.head
        targets = moved(targets, y_NA.device)
        nats = cross_entropy(y_NA.unsqueeze(0), head.weight, head.bias, targets.unsqueeze(0))
        if self.label_smoothing:
            # log Z is in both terms, so that smoothing only needs the logits of the targets and their mean:
            # ε Σ (y·(w_target − w̄) + b_target − b̄)
            over_NA = head.weight[targets] - head.weight.mean(dim=0)
            bias_N = head.bias[targets] - head.bias.mean()
            nats = nats + self.label_smoothing * ((y_NA.float() * over_NA).sum() + bias_N.sum())
        return Tally(nats, len(targets))

    def metrics(self, outputs: Forced, targets: Tensor, lengths_B: Tensor) -> dict[str, Tally]:
        logits_NV = outputs.head(outputs.y_NA).float()
        nats = nn.functional.cross_entropy(logits_NV, moved(targets, logits_NV.device), reduction="sum").item()
        right = int((logits_NV.argmax(dim=1).cpu() == targets).sum())
        return {"nats_per_token": Tally(nats, len(targets)), "accuracy": Tally(right, len(targets))}

    def measure(self, model: nn.Module, batch: ExampleBatch, state: State | None) -> tuple[dict[str, Tally], State]:
        metrics, _ = super().measure(model, batch, state)
        start = model(self._inputs(model, batch.inputs), lengths_to_device(batch.lengths_B, model))
        said = self.write(model, start, batch.lengths_B, beam_size=1)
        wanted = [self._text(row[:n]) for row, n in zip(batch.targets, batch.target_lengths_B, strict=True)]
        metrics["bleu"] = Tally(bleu_statistics(said, wanted), len(said), bleu_of)
        metrics["exact"] = Tally(sum(a == b for a, b in zip(said, wanted, strict=True)), len(said))
        return metrics, {}

    def final_metrics(self, model: nn.Module, split: Examples) -> dict[str, float]:
        said, wanted = self._translated(model, split, len(split))
        return {
            "beam_bleu": bleu_of(bleu_statistics(said, wanted), len(said)),
            "beam_chrf": chrf(said, wanted),
            "beam_exact": sum(a == b for a, b in zip(said, wanted, strict=True)) / len(said),
        }

    def answers(self, model: nn.Module, outputs: State, lengths_B: np.ndarray) -> list[str]:
        return self.write(model, outputs, lengths_B)

    def write(self, model: nn.Module, start: State, lengths_B: Sequence[int], *, beam_size: int = 0) -> list[str]:
        """The best translation of each row of a batch, from the decoder's initial state."""
        return [self._text(best.ids) for best in self.search(model, start, lengths_B, beam_size=beam_size)]

    def search(
        self, model: nn.Module, start: State, lengths_B: Sequence[int], *, beam_size: int = 0
    ) -> list[Hypothesis]:
        """The best hypothesis of each row; `beam_size` 0 is the recipe's."""
        return [found[0] for found in self.finished(model, start, lengths_B, beam_size=beam_size)]

    def finished(
        self, model: nn.Module, start: State, lengths_B: Sequence[int], *, beam_size: int = 0
    ) -> list[list[Hypothesis]]:
        """All finished hypotheses of each row, best first."""
        size = beam_size or self.beam_size
        limits = [min(int(self.max_ratio * length) + EXTRA, LONGEST) for length in lengths_B]
        rows = max(1, TOGETHER // (size * max(lengths_B)))
        found: list[list[Hypothesis]] = []
        for first in range(0, len(limits), rows):
            part = {name: value[first : first + rows] for name, value in start.items()}
            options = {"beam_size": size, "length_penalty": self.length_penalty, "alpha": self.alpha}
            found += beam_search(model.step, part, limits[first : first + rows], **options)
        return found

    @torch.inference_mode()
    def explain(self, model: nn.Module, item: Any, best: int | None = None) -> Explanation:
        """The finished hypotheses with their scores; for the best, the log-probability and the attention of each
        token."""
        check_best(best, self.beam_size)
        steps, inputs, lengths_B = self.alone(model, item)
        start = model(inputs, lengths_to_device(lengths_B, model))
        (found,) = self.finished(model, start, lengths_B)
        choices = [
            {"text": self._text(one.ids), "log_probability": one.log_probability, "score": one.score}
            for one in found[:best]
        ]
        ids = [*(int(id) for id in found[0].ids), EOS]
        y_BUA, weights_BUT = model.forced(start, to_device(np.array([[BOS, *ids[:-1]]]), model))
        logp_UV = model.head(y_BUA[0]).double().log_softmax(dim=1).cpu().numpy()
        label = self.encoding.target.label
        rows: list[dict[str, Any]] = [
            {"position": u + 1, "token": label(id), "log_probability": float(logp_UV[u, id])}
            for u, id in enumerate(ids)
        ]
        if weights_BUT is None:
            return Explanation(choices=choices, positions=rows)
        weights_UT = weights_BUT[0].float().cpu().numpy()
        read = [str(row.get("token", row.get("step"))) for row in step_rows(self.encoding.input, item, steps)]
        for row, weights_T in zip(rows, weights_UT, strict=True):
            most = int(weights_T.argmax())
            row |= {"looks_at": most + 1, "input": read[most], "weight": float(weights_T[most])}
        names = tuple(row["token"] for row in rows)
        drawn = attention_map("attention", weights_UT, names, read)
        return Explanation(choices=choices, positions=rows, matrix=drawn)

    def baselines(self, train: Examples, test: Examples) -> dict[str, float]:
        """The most common target of the training data, and a copy of the input; for nats, a unigram model."""
        if not len(train) or not len(test):
            return {}
        if self.primary == "nats_per_token":
            counts = np.bincount(train.fields["target"].tokens, minlength=self.target_field.size) + 1.0
            counts[EOS] += len(train)
            counts[[PAD, BOS]] = 1e-30  # never predicted
            logp, tokens = np.log(counts / counts.sum()), test.fields["target"].tokens
            return {"unigram": -float(logp[tokens].sum() + len(test) * logp[EOS]) / (len(tokens) + len(test))}
        wanted = [self._text(ids) for ids in test.fields["target"]]
        commonest = Counter(ids.tobytes() for ids in train.fields["target"]).most_common(1)[0][0]
        always = self._text(np.frombuffer(commonest, dtype=train.fields["target"].tokens.dtype))
        said = {"commonest target": [always] * len(wanted)}
        if not self.input_field.frames:
            said["the input copied"] = [self.shown_input(test, row).strip() for row in range(len(test))]
        if self.primary == "bleu":
            return {name: bleu_of(bleu_statistics(texts, wanted), len(wanted)) for name, texts in said.items()}
        return {name: float(np.mean([a == b for a, b in zip(t, wanted, strict=True)])) for name, t in said.items()}

    def findings(self, model: nn.Module, split: Examples) -> list[Finding]:
        """Translations, with the lowest BLEU first, and the attention of some."""
        count = min(len(split), LOOKED_THROUGH)
        if not count:
            return []
        said, wanted = self._translated(model, split, count)
        scores = [sentence_bleu(a, b) for a, b in zip(said, wanted, strict=True)]
        order = sorted(range(count), key=lambda row: (scores[row], row))[:SHOWN]
        table = {
            "source": [self.shown_input(split, row) for row in order],
            "reference": [wanted[row] for row in order],
            "translation": [said[row] for row in order],
            "bleu": [round(scores[row], 1) for row in order],
        }
        return [Table("predictions", table), *self._attention_maps(model, split)]

    @torch.inference_mode()
    def _attention_maps(self, model: nn.Module, split: Examples) -> list[Finding]:
        """The attention for the first examples of at most MOST_STEPS steps, each with the model's translation."""
        if model.attention is None or self.input_field.width:
            return []
        source, target, maps = self.encoding.input, self.encoding.target, []
        lengths = split.fields["input"].lengths[:LOOKED_THROUGH]
        for row in np.flatnonzero((lengths > 1) & (lengths <= MOST_STEPS))[:MAPS].tolist():
            inputs_T = np.asarray(split.fields["input"][row], dtype=np.int64)
            lengths_B = np.array([len(inputs_T)])
            start = model(self._inputs(model, inputs_T[None]), lengths_to_device(lengths_B, model))
            ids = self.search(model, start, lengths_B)[0].ids[:MOST_STEPS]
            _, weights_BUT = model.forced(start, to_device(np.array([[BOS, *ids]]), model))
            written = [target.label(int(id)) for id in [*ids, EOS]]
            weights_UT = weights_BUT[0].float().cpu().numpy()
            read = [source.label(int(id)) for id in inputs_T]
            maps.append(attention_map(f"attention_{len(maps) + 1}", weights_UT, written, read))
        return maps

    @torch.inference_mode()
    def _translated(self, model: nn.Module, split: Examples, count: int) -> tuple[list[str], list[str]]:
        """The translations of a split's first rows, and their references."""
        model.eval()
        said = [""] * len(split)
        for batch in self.each_once(split):
            kept = batch.rows < count
            if kept.any():
                lengths_B = batch.lengths_B[kept]
                start = model(self._inputs(model, batch.inputs[kept]), lengths_to_device(lengths_B, model))
                for row, text in zip(batch.rows[kept], self.write(model, start, lengths_B), strict=True):
                    said[row] = text
        return said[:count], [self._text(split.fields["target"][row]) for row in range(count)]

    def _text(self, ids: Any) -> str:
        """Target ids as text, without the space that the first word may start with."""
        item = self.encoding.target.decode(ids)
        return (item if isinstance(item, str) else " ".join(item)).strip()


def attention_map(name: str, weights_UT: np.ndarray, written: Sequence[str], read: Sequence[str]) -> Matrix:
    """The attention weights for each output token as a matrix."""
    title = "attention while writing"
    return Matrix(name, title, weights_UT, tuple(written), tuple(read), "translation", "input")


def framed(batch: ExampleBatch) -> tuple[np.ndarray, np.ndarray]:
    """The decoder's inputs, the target after BOS, and its outputs, the target before EOS; int64 [B, U] each, U one more
    than the longest target."""
    column = np.full((len(batch.targets), 1), PAD)
    before_BU = np.concatenate([column + BOS, batch.targets], axis=1)
    after_BU = np.concatenate([batch.targets, column], axis=1)
    after_BU[np.arange(len(after_BU)), batch.target_lengths_B] = EOS
    return before_BU, after_BU
