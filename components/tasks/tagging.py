"""Tagging: a label for each step (many-to-many of equal length).

Shapes: B batch, T time, V labels with the specials, Y without them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field as Bounds
from torch import Tensor, nn

from components.datasets.batches.examples import ExampleBatches
from components.datasets.store import Examples
from components.datasets.text.spans import OUTSIDE, follows, spans
from components.encodings.pair import Pair
from components.encodings.spelled import Spelled
from components.encodings.vocabulary import PAD, SPECIALS, UNK
from components.errors import UserError
from components.layers import crf
from components.layers.base import moved
from components.models.ensemble import mean_chains
from components.models.tagger import Tagger
from components.tasks.base import Finding, Matrix, Table, Tally, lengths_to_device
from components.tasks.classification import confusion_matrix
from components.tasks.examples import SHOWN, ExampleTask
from components.tasks.explanation import Explanation, step_rows, totals_of

MOST_EXPLAINED = 100  # steps of a sequence: the cost is quadratic


class Tagging(ExampleTask):
    """Every step has a label; steps labelled "" are ignored. Metrics, over the labelled steps: accuracy, nats, and the
    share of sequences that are correct at every step.

    `scheme` iob: the labels are tags of spans (B-person, I-person, O). The primary metric is then span_f1, as in
    conlleval: a span is correct if both its ends and its type are; precision and recall are over all spans together. A
    model with `crf` never predicts an I that doesn't continue a span of its type. `span_bias` nats are added to the
    score of every span tag in decoding, not in the loss: above 0, recall increases and precision decreases, which helps
    if recall is low. Choose it on validation data.
    """

    model = Tagger
    join = staticmethod(mean_chains)
    columns = {"tags": "texts"}
    primary = "accuracy"
    counted = "labels"
    lower_is_better = False
    loss_unit = "nats per label"

    def __init__(
        self,
        encoding: Pair,
        framing: str,
        /,
        *,
        scheme: Literal["iob", "none"] = "none",
        span_bias: Annotated[float, Bounds(ge=-20, le=20)] = 0.0,
    ) -> None:
        super().__init__(encoding, framing)
        if getattr(encoding.input, "tempo", 1.0) != 1.0:
            hint = "leave it out, or use encoding.input.warp, which keeps the number of frames"
            what = "can't be used with tagging: changing the tempo changes the number of frames to label"
            raise UserError(what, where="encoding.input.tempo", hint=hint)
        if span_bias and scheme == "none":
            hint = "set task.scheme to iob, or leave span_bias out"
            raise UserError("only works with tags of spans (task.scheme: iob)", where="task.span_bias", hint=hint)
        self.scheme, self.span_bias = scheme, span_bias
        if scheme == "iob":
            self.primary = "span_f1"

    @property
    def labels(self) -> tuple[str, ...]:
        return self.encoding.target.vocabulary.tokens[len(SPECIALS) :]

    def build_member(self, options: Mapping[str, Any]) -> nn.Module:
        read = self.encoding.input
        letters = len(read.letters) if isinstance(read, Spelled) else 0
        model = self.model(self.input_field, self.target_field.size, letters, **options)
        if model.crf is not None and self.scheme == "iob":
            allowed_YY, first_Y = self._allowed()
            model.crf.constrain(torch.from_numpy(allowed_YY), torch.from_numpy(first_Y))
        return model

    def batches(self, split: Examples, *, batch_size: int, window: int, seed: int, training: bool) -> ExampleBatches:
        inputs, targets = split.fields["input"].lengths, split.fields["target"].lengths
        if (inputs != targets).any():
            row = int(np.flatnonzero(inputs != targets)[0])
            raise UserError(
                f"example {row} has {inputs[row]} steps but {targets[row]} labels",
                where="data",
                hint="tagging needs one label per step",
            )
        if training and self.scheme == "iob":
            self._check_tags(split)
        return super().batches(split, batch_size=batch_size, window=window, seed=seed, training=training)

    def tally(self, outputs: Tensor, targets: Tensor, lengths_B: Tensor) -> Tally:
        count = int((targets != PAD).sum())
        targets, lengths_B = moved(targets, outputs.device), moved(lengths_B, outputs.device)
        if outputs.dim() == 4:  # CRF
            known_BT = torch.where(targets >= len(SPECIALS), targets - len(SPECIALS), -1)
            return Tally(crf.nats(outputs, known_BT, lengths_B).sum(), count)
        nats = nn.functional.cross_entropy(
            outputs.flatten(0, 1).float(), targets.flatten(), ignore_index=PAD, reduction="sum"
        )
        return Tally(nats, count)

    def metrics(self, outputs: Tensor, targets: Tensor, lengths_B: Tensor) -> dict[str, Tally]:
        loss, counts_BT = self.tally(outputs, targets, lengths_B), targets != PAD
        said_BT = self._said(outputs, lengths_B)
        wrong_BT = (said_BT != targets) & counts_BT
        found = {
            "accuracy": Tally(loss.count - wrong_BT.sum().item(), loss.count),
            "nats_per_label": Tally(loss.total.item(), loss.count),
            "whole_sequences_right": Tally((~wrong_BT.any(dim=1)).sum().item(), len(targets)),
        }
        if self.scheme == "none":
            return found
        tags = zip(self._tags(targets, lengths_B), self._tags(said_BT, lengths_B), strict=True)
        counts = sum((span_counts(wanted, said).sum(0) for wanted, said in tags), np.zeros(3))
        for name, of in (("span_f1", f1), ("span_precision", precision), ("span_recall", recall)):
            found[name] = Tally(counts, len(targets), of)
        return found

    def answers(self, model: nn.Module, outputs: Tensor, lengths_B: np.ndarray) -> list[list[str]]:
        lengths = torch.from_numpy(lengths_B)
        return self._tags(self._said(outputs, lengths), lengths)

    def explain(self, model: nn.Module, item: Any, best: int | None = None) -> Explanation:
        """The tag of each step with its probability, and the contribution of every step to the log-probability of every
        tag."""
        steps, inputs, lengths_B = self.alone(model, item)
        if len(steps) > MOST_EXPLAINED:
            what = f"has {len(steps):,} steps; at most {MOST_EXPLAINED} can be explained"
            raise UserError(what, where="explain", hint="split it into single sentences")
        with torch.inference_mode():
            said_T = self._said(model(inputs, lengths_to_device(lengths_B, model)), torch.from_numpy(lengths_B))[0]

        def log_probabilities(outputs: Tensor, lengths_N: Tensor) -> Tensor:
            if outputs.dim() == 4:  # CRF: the marginal of each tag
                lengths_N, T = moved(lengths_N, outputs.device), len(said_T)
                alone_TT = torch.where(torch.eye(T, dtype=torch.bool), said_T - len(SPECIALS), -1).to(outputs.device)
                each_TN = [-crf.nats(outputs, alone_T.expand(len(outputs), T), lengths_N) for alone_T in alone_TT]
                return torch.stack(each_TN, dim=1)
            logp_NTY = outputs[..., len(SPECIALS) :].float().log_softmax(-1)
            at_T = moved(said_T - len(SPECIALS), outputs.device)
            return logp_NTY.gather(2, at_T[None, :, None].expand(len(outputs), -1, 1)).squeeze(2)

        _, found = self.contributions(model, item, log_probabilities)
        tags = self.encoding.target.decode(said_T.numpy())
        rows = step_rows(self.encoding.input, item, steps)
        for row, tag, nats in zip(rows, tags, found.at_input_O, strict=True):
            row |= {"tag": tag, "probability": float(np.exp(min(0.0, nats)))}
        names = [str(row.get("token", row.get("step"))) for row in rows]
        outputs = [f"{name}: {tag}" for name, tag in zip(names, tags, strict=True)]
        cells = found.values_OTI.sum(axis=2)
        title = "contributions to the log-probability of each tag, nats"
        matrix = Matrix("contributions", title, cells, tuple(outputs), tuple(names), "tag", "input")
        return Explanation(positions=rows, totals=totals_of(found, outputs, "nats"), matrix=matrix)

    def baselines(self, train: Examples, test: Examples) -> dict[str, float]:
        """The most common label of the training data; for spans: no span, and the most common tag of each word."""
        if not len(test) or not train.fields["target"].total_tokens:
            return {}
        if self.scheme == "iob":
            by_word = {} if self.input_field.frames else {"commonest tag of each word": self._by_word(train, test)}
            return {"no span": 0.0, **by_word}
        labels, test_labels = (split.fields["target"].tokens for split in (train, test))
        labels, test_labels = labels[labels != PAD], test_labels[test_labels != PAD]
        if not len(labels) or not len(test_labels):
            return {}
        return {"commonest label": float((test_labels == np.bincount(labels).argmax()).mean())}

    @torch.inference_mode()
    def findings(self, model: nn.Module, split: Examples) -> list[Finding]:
        """Predictions, with the most wrong labels first; the confusion matrix; for spans, the metrics of each type."""
        if not len(split):
            return []
        model.eval()
        rows, tags = [], []
        for batch in self.each_once(split):
            outputs, targets, lengths_B = self.outputs(model, batch)
            wanted = self._tags(targets, lengths_B)
            for row, answer, right in zip(
                batch.rows, self.answers(model, outputs, batch.lengths_B), wanted, strict=True
            ):
                wrong = sum(a != b for a, b in zip(answer, right, strict=True) if b)
                rows.append((wrong, int(row), self.shown_input(split, int(row)), " ".join(right), " ".join(answer)))
                tags.append((right, answer))
        rows.sort(key=lambda row: (-row[0], row[1]))
        columns = ("wrong", "row", "input", "labels", "predicted")
        table = {name: [row[at] for row in rows[:SHOWN]] for at, name in enumerate(columns)}
        found: list[Finding] = [self._confusion(tags), Table("predictions", table)]
        return [*found, types_table(tags)] if self.scheme == "iob" else found

    def _inputs(self, model: nn.Module, inputs: np.ndarray) -> Tensor:
        """Spelled words stay on the CPU, where the model finds duplicates."""
        return torch.from_numpy(inputs) if isinstance(self.encoding.input, Spelled) else super()._inputs(model, inputs)

    def _said(self, outputs: Tensor, lengths_B: Tensor) -> Tensor:
        """The likeliest labels [B, T], as ids of the vocabulary, on the CPU, never a special; with `span_bias` in the
        scores."""
        scores = outputs if outputs.dim() == 4 else outputs[..., len(SPECIALS) :]
        if self.span_bias and OUTSIDE in self.labels:
            outside_Y = torch.tensor([label == OUTSIDE for label in self.labels], device=scores.device)
            scores = scores - self.span_bias * outside_Y
        if scores.dim() == 4:  # CRF
            best_BT = crf.best_labels(scores, moved(lengths_B, scores.device))
        else:
            best_BT = scores.argmax(-1)
        return best_BT.cpu() + len(SPECIALS)

    def _tags(self, ids_BT: Tensor, lengths_B: Tensor) -> list[list[str]]:
        decode = self.encoding.target.decode
        rows = zip(ids_BT.numpy(), lengths_B.tolist(), strict=True)
        return [decode(row[:length]) for row, length in rows]

    def _allowed(self) -> tuple[np.ndarray, np.ndarray]:
        """Allowed transitions from label to label (bool [Y, Y]), and allowed first labels (bool [Y])."""
        after = [[follows(tag, previous) for tag in self.labels] for previous in self.labels]
        return np.array(after, dtype=bool), np.array([follows(tag, None) for tag in self.labels], dtype=bool)

    def _check_tags(self, split: Examples) -> None:
        targets = split.fields["target"]
        for row, ids in enumerate(targets):
            tags = self.encoding.target.decode(ids)
            for previous, tag in zip([None, *tags], tags, strict=False):
                if previous != "" and not follows(tag, previous):
                    what = f"example {row} has {tag} after {previous or 'nothing'}, which isn't valid IOB2"
                    raise UserError(what, where="task.scheme", hint="the reader conll converts IOB1 and BIOES to IOB2")

    def _by_word(self, train: Examples, test: Examples) -> float:
        """The span F1 of the most common tag of each word; unknown words are O."""

        def first(split: Examples) -> np.ndarray:
            steps = split.fields["input"].tokens
            return steps[:, 0] if steps.ndim > 1 else steps

        seen: dict[int, Counter[int]] = {}
        for word, tag in zip(first(train).tolist(), train.fields["target"].tokens.tolist(), strict=True):
            seen.setdefault(word, Counter())[tag] += 1
        seen.pop(UNK, None)
        said = np.array([seen[w].most_common(1)[0][0] if w in seen else UNK for w in first(test).tolist()])
        targets, decode, counts = test.fields["target"], self.encoding.target.decode, np.zeros(3)
        for row, ids in enumerate(targets):
            start = int(targets.offsets[row])
            counts += span_counts(decode(ids), decode(said[start : start + len(ids)])).sum(0)
        return f1(counts, len(test))

    def _confusion(self, tags: Sequence[tuple[list[str], list[str]]]) -> Matrix:
        place = {label: at for at, label in enumerate(self.labels)}
        counts_YY = np.zeros((len(place), len(place)))
        for wanted, said in tags:
            for a, b in zip(wanted, said, strict=True):
                if a and b:
                    counts_YY[place[a], place[b]] += 1
        return confusion_matrix(counts_YY, self.labels, self.labels)


def span_counts(wanted: Sequence[str], said: Sequence[str], kinds: Sequence[str] | None = None) -> np.ndarray:
    """Numbers of correct, predicted and actual spans: float [1, 3], or [K, 3] for each of K `kinds`."""
    there, found = set(spans(wanted)), set(spans(said))
    sides = (there & found, found, there)
    if kinds is None:
        return np.array([[len(side) for side in sides]], dtype=float)
    counts = [[sum(span[2] == kind for span in side) for side in sides] for kind in kinds]
    return np.array(counts, dtype=float).reshape(len(kinds), len(sides))


def types_table(tags: Sequence[tuple[list[str], list[str]]]) -> Table:
    """Precision, recall and F1 of each type, most common first."""
    there = Counter(span[2] for wanted, _ in tags for span in spans(wanted))
    there.update(dict.fromkeys((span[2] for _, said in tags for span in spans(said)), 0))
    kinds = [kind for kind, _ in there.most_common()]
    counts = sum((span_counts(wanted, said, kinds) for wanted, said in tags), np.zeros((len(kinds), 3)))
    columns: dict[str, list[Any]] = {"type": kinds}
    for name, of in (("precision", precision), ("recall", recall), ("f1", f1)):
        columns[name] = [round(of(row, 1), 4) for row in counts]
    for at, name in enumerate(("right", "said", "there")):
        columns[name] = [int(count) for count in counts[:, at]]
    return Table("types", columns)


def precision(counts: np.ndarray, _: float) -> float:
    """The share of predicted spans that are correct; 0 if none are predicted, as in conlleval."""
    return float(counts[0] / max(counts[1], 1))


def recall(counts: np.ndarray, _: float) -> float:
    """The share of actual spans that are found."""
    return float(counts[0] / max(counts[2], 1))


def f1(counts: np.ndarray, _: float) -> float:
    """The harmonic mean of precision and recall: 2 correct / (predicted + actual)."""
    return float(2 * counts[0] / max(counts[1] + counts[2], 1))
