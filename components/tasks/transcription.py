"""Transcription: the text of a recording (many-to-many of unequal length), by connectionist temporal classification
(CTC).

Shapes: B batch, T frames, U target steps, V tokens; token 0, padding elsewhere, is the blank.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field as Bounds
from torch import Tensor, nn

from components.datasets.batches.examples import ExampleBatches
from components.datasets.store import Examples
from components.encodings.base import Encoding
from components.encodings.pair import Pair
from components.encodings.vocabulary import BOS, EOS, PAD, UNK
from components.errors import UserError
from components.generation.ctc import BLANK, ModelScorer, Reading, Scorer, aligned, greedy, prefix_beam_search
from components.generation.ngram import NGrams
from components.layers.base import moved
from components.models.ensemble import mean_probabilities
from components.models.transcriber import Transcriber
from components.tasks.base import Finding, Matrix, Table, Tally, lengths_to_device
from components.tasks.examples import SHOWN, ExampleTask
from components.tasks.explanation import Explanation, check_best, seconds_of

PICTURED = 4  # recordings with a picture
NEVER = [UNK, BOS, EOS]  # tokens that are never predicted

log = logging.getLogger(__name__)


class Transcription(ExampleTask):
    """The loss is −log p(text | frames) per text token, with the sum over all alignments of text and frames (Graves et
    al. 2006). A text that is longer than its frames allow, one frame for each token and one between two equal tokens,
    has no alignment: it is ignored in the loss, with a warning, but counts in the metrics.

    Metrics, of best path decoding: cer and wer, character and word error rates; wrong, the share of recordings with any
    error. The final metrics `beam_…` are those of the beam search that is used after training. The beam search keeps
    `beam_size` texts. It adds the log-probability of a language model with the weight `language_model_weight` (shallow
    fusion), and `length_bonus` for each token. `ngrams`: the order n of an n-gram language model of the training texts
    (0: none); it helps if new texts are similar to them. `use_language_model` sets another one.
    """

    model = Transcriber
    join = staticmethod(mean_probabilities)
    columns = {"text": "text"}
    primary = "cer"
    counted = "target tokens"
    loss_unit = "nats per target token"

    def __init__(
        self,
        encoding: Pair,
        framing: str,
        /,
        *,
        beam_size: Annotated[int, Bounds(gt=0, le=1024)] = 16,
        language_model_weight: Annotated[float, Bounds(ge=0, le=10)] = 0.5,
        length_bonus: Annotated[float, Bounds(ge=-10, le=10)] = 0.0,
        ngrams: Annotated[int, Bounds(ge=0, le=20)] = 0,
    ) -> None:
        super().__init__(encoding, framing)
        if self.target_field.width:
            raise UserError(
                "needs an encoding of single tokens", where="encoding.target", hint="for example characters"
            )
        self.beam_size, self.language_model_weight = beam_size, language_model_weight
        self.length_bonus, self.ngrams = length_bonus, ngrams
        self.scorer: Scorer | None = None

    def prepare(self, train: Examples) -> list[str]:
        """Count the n-grams of the training texts for the language model, if there is one."""
        if not self.ngrams:
            return []
        self.scorer = NGrams.of(self.ngrams, self.target_field.size, train.fields["target"])
        return [f"language model: {len(self.scorer.counts):,} different {self.ngrams}-grams of the training texts"]

    def learned(self) -> dict[str, Any]:
        return {"ngrams": self.scorer.state()} if isinstance(self.scorer, NGrams) else {}

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        if self.ngrams:
            self.scorer = NGrams(self.ngrams, self.target_field.size, learned["ngrams"])

    def batches(self, split: Examples, *, batch_size: int, window: int, seed: int, training: bool) -> ExampleBatches:
        """Whole recordings; `window` is ignored.

        Raises:
            UserError: no training text fits into its frames.
        """
        if training and len(split):
            frames, texts = split.fields["input"], split.fields["target"]
            impossible = sum(needed(text) > len(steps) for steps, text in zip(frames, texts, strict=True))
            hint = "decrease encoding.input.hop_seconds or encoding.input.stack"
            if impossible == len(split):
                raise UserError(
                    "all texts have more tokens than their recordings have frames", where="encoding", hint=hint
                )
            if impossible:
                log.warning(
                    "%d of %d texts have more tokens than their recordings have frames: %s",
                    impossible,
                    len(split),
                    hint,
                )
        return super().batches(split, batch_size=batch_size, window=window, seed=seed, training=training)

    def tally(self, outputs: Tensor, targets: Tensor, lengths_B: Tensor) -> Tally:
        log_probs_TBV = outputs.float().log_softmax(dim=2).transpose(0, 1)
        target_lengths_B = (targets != PAD).sum(dim=1)
        text_BU = moved(targets, outputs.device)
        # the lengths stay on the CPU, where GPU kernels need them too
        nats_B = nn.functional.ctc_loss(
            log_probs_TBV, text_BU, lengths_B, target_lengths_B, blank=BLANK, reduction="none", zero_infinity=True
        )
        repeats_B = ((targets[:, 1:] == targets[:, :-1]) & (targets[:, 1:] != PAD)).sum(dim=1)
        possible_B = target_lengths_B + repeats_B <= lengths_B
        return Tally(nats_B.sum(), int(target_lengths_B[possible_B].sum()))

    def metrics(self, outputs: Tensor, targets: Tensor, lengths_B: Tensor) -> dict[str, Tally]:
        said = [self.text(greedy(log_probs_TV)) for log_probs_TV in frames_of(outputs, lengths_B.tolist())]
        nats = self.tally(outputs, targets, lengths_B)
        return errors(self.texts(targets), said) | {"nats_per_token": Tally(nats.total.item(), nats.count)}

    def answers(self, model: nn.Module, outputs: Tensor, lengths_B: np.ndarray) -> list[str]:
        """The text of each recording."""
        return [self.text(self.read(log_probs_TV)[0].ids) for log_probs_TV in frames_of(outputs, lengths_B.tolist())]

    @torch.inference_mode()
    def explain(self, model: nn.Module, item: Any, best: int | None = None) -> Explanation:
        """The texts of the beam search with their scores; for the best, the time of each token and word, and the
        probability of each of its tokens at each frame. The model's times may be a little late."""
        check_best(best, self.beam_size)
        _, inputs, lengths_B = self.alone(model, item)
        (log_probs_TV,) = frames_of(model(inputs, lengths_to_device(lengths_B, model)), lengths_B.tolist())
        readings = self.read(log_probs_TV)
        choices = [
            {"text": self.text(one.ids), "log_probability": one.log_probability, "score": one.score}
            for one in readings[:best]
        ]
        ids, seconds = readings[0].ids, seconds_of(self.encoding.input)
        rows: list[dict[str, Any]] = []
        words: list[dict[str, Any]] = []
        in_word, unit = False, self.encoding.target.unit
        for id, (first, end) in zip(ids, aligned(log_probs_TV, ids), strict=True):
            token = self.encoding.target.vocabulary.token(id)
            when: dict[str, Any] = {"first_frame": first + 1, "last_frame": end}
            if seconds:
                when |= {"start_seconds": round(first * seconds, 6), "end_seconds": round(end * seconds, 6)}
            sure = float(np.exp(log_probs_TV[first:end, id].mean()))
            rows.append({"position": len(rows) + 1, "token": token, **when, "probability": sure})
            if unit == "char" and token.isspace():
                in_word = False
            elif unit == "char" and in_word:
                ended = {name: when[name] for name in ("last_frame", "end_seconds") if name in when}
                words[-1] |= {"word": words[-1]["word"] + token, **ended}
            elif unit == "char":
                words.append({"word": token, **when})
                in_word = True
        text = self.text(ids)
        drawn = self._alignment("alignment", text, text, log_probs_TV)
        return Explanation(choices=choices, positions=rows, words=words, matrix=drawn)

    def read(self, log_probs_TV: np.ndarray) -> list[Reading]:
        """The best texts by beam search, best first."""
        return prefix_beam_search(
            log_probs_TV,
            self.beam_size,
            scorer=self.scorer,
            weight=self.language_model_weight,
            bonus=self.length_bonus,
            end=EOS,
        )

    def use_language_model(self, model: nn.Module, encoding: Encoding) -> None:
        """Use a trained language model in the beam search.

        Raises:
            UserError: its unit differs from the texts' (e.g. words and characters), or it needs more than tokens.
        """
        unit = self.encoding.target.unit
        if encoding.form != "tokens" or encoding.unit != unit or encoding.context_sizes or encoding.given:
            hint = f"train one on {unit}s: reprise run shakespeare-chars"
            raise UserError(f"must be a model of single {unit}s", where="language model", hint=hint)
        self.scorer = ModelScorer(model, encoding.vocabulary, self.encoding.target.vocabulary)

    def text(self, ids: Sequence[int]) -> str:
        """The text of the ids; symbols are separated by spaces."""
        said = self.encoding.target.decode(ids)
        return said if isinstance(said, str) else " ".join(said)

    def texts(self, targets: Tensor) -> list[str]:
        """The texts of padded targets [B, U]."""
        return [self.text([id for id in row if id != PAD]) for row in targets.tolist()]

    def baselines(self, train: Examples, test: Examples) -> dict[str, float]:
        """The most common text of the training data."""
        if not len(train) or not len(test):
            return {}
        known = Counter(self.text(ids) for ids in train.fields["target"])
        commonest = min(known, key=lambda text: (-known[text], text))
        wanted = [self.text(ids) for ids in test.fields["target"]]
        return {"commonest text": errors(wanted, [commonest] * len(wanted))["cer"].value}

    def final_metrics(self, model: nn.Module, split: Examples) -> dict[str, float]:
        """Metrics of the beam search."""
        _, wanted, said, _ = self._read_all(model, split)
        return {f"beam_{name}": tally.value for name, tally in errors(wanted, said).items() if tally.count}

    def findings(self, model: nn.Module, split: Examples) -> list[Finding]:
        """Predictions, with the most errors first; and the alignments of some."""
        rows, wanted, said, frames = self._read_all(model, split)
        if not rows:
            return []
        wrong = [errors([a], [b])["cer"].total for a, b in zip(wanted, said, strict=True)]
        order = sorted(range(len(rows)), key=lambda i: (-wrong[i], rows[i]))
        shown = order[:SHOWN]
        table = {
            "input": [self.shown_input(split, rows[i]) for i in shown],
            "text": [wanted[i] for i in shown],
            "predicted": [said[i] for i in shown],
            "character_errors": [int(wrong[i]) for i in shown],
        }
        # those with the most errors, and some from the middle
        half = (PICTURED + 1) // 2
        chosen = dict.fromkeys([*order[:half], *order[len(order) // 2 :][: PICTURED - half]])
        pictures = [
            self._alignment(f"alignment_{number}", wanted[i], said[i], frames[i]) for number, i in enumerate(chosen, 1)
        ]
        return [Table("predictions", table), *pictures]

    def _read_all(self, model: nn.Module, split: Examples) -> tuple[list[int], list[str], list[str], list[np.ndarray]]:
        """(rows, texts, predicted texts of the beam search, log-probabilities [T, V]) of a whole split."""
        rows: list[int] = []
        wanted: list[str] = []
        said: list[str] = []
        frames: list[np.ndarray] = []
        model.eval()
        with torch.inference_mode():
            for batch in self.each_once(split):
                outputs, targets, _ = self.outputs(model, batch)
                rows += batch.rows.tolist()
                wanted += self.texts(targets)
                frames += frames_of(outputs, batch.lengths_B.tolist())
        said = [self.text(self.read(log_probs_TV)[0].ids) for log_probs_TV in frames]
        return rows, wanted, said, frames

    def _alignment(self, name: str, wanted: str, said: str, log_probs_TV: np.ndarray) -> Matrix:
        """The probabilities at each frame of the tokens of the text and of the prediction, and of the blank."""
        ids = [*(int(i) for i in self.encoding.target.encode(wanted)), *self.read(log_probs_TV)[0].ids]
        tokens = [id for id in dict.fromkeys(ids) if id not in NEVER]
        title = f"“{_short(wanted)}”" + (f", read as “{_short(said)}”" if said != wanted else "")
        labels = [self.encoding.target.label(id) for id in tokens]
        return Matrix(
            name,
            title,
            np.exp(log_probs_TV[:, [*tokens, BLANK]]).T,
            (*labels, "blank"),
            tuple(str(t) for t in range(len(log_probs_TV))),
            "token",
            "frame",
        )


def needed(text: np.ndarray) -> int:
    """Minimum number of frames for a text: one for each token, and a blank between two equal tokens."""
    return len(text) + int((text[1:] == text[:-1]).sum())


def frames_of(outputs: Tensor, lengths: Sequence[int]) -> list[np.ndarray]:
    """log p [T, V] of each row's frames, without padding, of the tokens and the blank without NEVER."""
    never = torch.tensor(NEVER, device=outputs.device)
    log_probs_BTV = outputs.detach().float().index_fill(2, never, -torch.inf).log_softmax(dim=2)
    return [row[:length] for row, length in zip(log_probs_BTV.cpu().numpy(), lengths, strict=True)]


def errors(wanted: list[str], said: list[str]) -> dict[str, Tally]:
    """Error rates, with jiwer: edits (substitutions, insertions, deletions) by the length of the references."""
    import jiwer

    tallies: dict[str, Tally] = {}
    for name, process in (("cer", jiwer.process_characters), ("wer", jiwer.process_words)):
        found = process(wanted, said)
        edits = found.substitutions + found.insertions + found.deletions
        tallies[name] = Tally(edits, found.hits + found.substitutions + found.deletions)
    return tallies | {"wrong": Tally(sum(a != b for a, b in zip(wanted, said, strict=True)), len(wanted))}


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"
