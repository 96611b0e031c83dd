"""Classification: one label for a whole sequence (many-to-one). With one step it is one-to-one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from components.datasets.batches.examples import ExampleBatches
from components.datasets.store import Examples
from components.encodings.pair import Pair
from components.encodings.vocabulary import SPECIALS
from components.errors import UserError, unknown
from components.layers.base import moved
from components.models.ensemble import mean_probabilities
from components.models.pooled import Pooled
from components.tasks.base import Finding, Matrix, Table, Tally, Thresholds, lengths_to_device
from components.tasks.examples import SHOWN, ExampleTask
from components.tasks.explanation import Explanation, contributed
from components.tasks.thresholds import average_precision, roc_auc

SHOWN_WEIGHTS = 12
UNSEEN = "(not in training)"  # row of the confusion matrix for labels that aren't in the training data


class Examined(NamedTuple):
    """An example with its prediction: the row in the split, the ids of the label and of the prediction, the label's
    negative log-likelihood in nats, and the log odds of the last label against the first."""

    row: int
    wanted: int
    said: int
    nats: float
    log_odds: float


class Classification(ExampleTask):
    """Metrics: accuracy, macro F1 (the mean F1 of the labels, without labels that don't occur), nats; for two labels
    also, at the end, average precision and ROC AUC, with the second label as the positive class.

    Two settings are for unbalanced labels; metrics are never weighted. `class_weights` multiply the loss of a label's
    training examples: balanced weights are N / (K count), for N examples and K labels in train, or give them, such as
    `{spam: 5}`; the other labels have 1. `sampling` of training examples: shuffled (each once in an epoch), or balanced
    (all labels equally often; examples of rare labels are repeated, and some of common labels are left out, others in
    each epoch). With either, the model overestimates the probability of rare labels.
    """

    model = Pooled
    join = staticmethod(mean_probabilities)
    columns = {"label": "text", "probability": "number"}
    primary = "accuracy"
    counted = "examples"
    lower_is_better = False
    loss_unit = "nats per example"

    def __init__(
        self,
        encoding: Pair,
        framing: str,
        /,
        *,
        class_weights: Literal["balanced"] | dict[str, Annotated[float, Field(gt=0, le=1_000_000)]] | None = None,
        sampling: Literal["shuffled", "balanced"] = "shuffled",
    ) -> None:
        super().__init__(encoding, framing)
        if class_weights == sampling == "balanced":
            what = "class_weights and sampling can't both be balanced: rare labels would be weighted twice"
            raise UserError(what, where="task", hint="leave one of the two out")
        self.class_weights, self.sampling = class_weights, sampling
        self.weights_V: Tensor | None = None
        if class_weights is not None:
            self.loss_unit = "nats per example, weighted by label"

    def prepare(self, train: Examples) -> list[str]:
        """Compute the labels' weights from their frequencies."""
        classes = self.encoding.target.vocabulary.tokens[len(SPECIALS) :]
        notes = [f"sampling: all {len(classes)} labels are seen equally often in training"] * (
            self.sampling == "balanced"
        )
        if self.class_weights is None:
            return notes
        weights_V = np.ones(self.target_field.size)
        if isinstance(self.class_weights, Mapping):
            for label, weight in self.class_weights.items():
                if label not in classes:
                    raise unknown("label", label, classes, where="task.class_weights")
                weights_V[len(SPECIALS) + classes.index(label)] = weight
        else:
            weights_V = balanced_weights(train.fields["target"].tokens, len(weights_V))
        self.weights_V = torch.from_numpy(weights_V).float()
        told = zip(classes[:SHOWN_WEIGHTS], weights_V[len(SPECIALS) :], strict=False)
        more = f" · {len(classes) - SHOWN_WEIGHTS} more" if len(classes) > SHOWN_WEIGHTS else ""
        shown = " · ".join(f"{label} {weight:.3g}" for label, weight in told)
        return [f"training loss weighted by label: {shown}{more}; metrics aren't weighted", *notes]

    def batches(self, split: Examples, *, batch_size: int, window: int, seed: int, training: bool) -> ExampleBatches:
        """Raises UserError if a target is several tokens: only one label can be predicted."""
        counts = split.fields["target"].lengths
        if (counts != 1).any():
            what = f"gives {counts.max()} tokens for a label, but this task predicts one"
            raise UserError(what, where="encoding.target", hint="set encoding.target to {kind: labels}")
        return ExampleBatches(
            split,
            batch_size=batch_size,
            seed=seed,
            training=training,
            augment=self.encoding.input.augment,
            classes=split.fields["target"].tokens if self.sampling == "balanced" else None,
        )

    def training_tally(self, outputs: Tensor, targets: Tensor, lengths_B: Tensor) -> Tally:
        if self.weights_V is None:
            return self.tally(outputs, targets, lengths_B)
        weights_B = moved(self.weights_V[targets[:, 0]], outputs.device)
        nats_B = nn.functional.cross_entropy(outputs.float(), moved(targets[:, 0], outputs.device), reduction="none")
        return Tally((weights_B * nats_B).sum(), len(targets))

    def tally(self, outputs: Tensor, targets: Tensor, lengths_B: Tensor) -> Tally:
        logits_BV, labels_B = outputs.float(), moved(targets[:, 0], outputs.device)
        nats = nn.functional.cross_entropy(logits_BV, labels_B, reduction="sum")
        return Tally(nats, len(labels_B))

    def metrics(self, outputs: Tensor, targets: Tensor, lengths_B: Tensor) -> dict[str, Tally]:
        said_B, labels_B = self.likeliest(outputs).cpu(), targets[:, 0]
        V = self.target_field.size
        confusion_VV = torch.bincount(labels_B * V + said_B, minlength=V * V).reshape(V, V).double()
        return {
            "accuracy": Tally((said_B == labels_B).sum().item(), len(labels_B)),
            "macro_f1": Tally(confusion_VV, len(labels_B), macro_f1),
            "nats_per_example": Tally(self.tally(outputs, targets, lengths_B).total.item(), len(labels_B)),
        }

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Probabilities of the labels [B, V]; 0 for the specials, which aren't labels."""
        specials = torch.arange(len(SPECIALS), device=outputs.device)
        return outputs.float().index_fill(1, specials, -torch.inf).softmax(dim=1)

    def likeliest(self, outputs: Tensor) -> Tensor:
        """The predicted labels [B], as ids."""
        return outputs[:, len(SPECIALS) :].argmax(dim=1) + len(SPECIALS)

    def answers(self, model: nn.Module, outputs: Tensor, lengths_B: np.ndarray) -> list[dict[str, Any]]:
        """The label of each row, with its probability."""
        said_B = self.likeliest(outputs)
        labels = self.encoding.target.decode(said_B.cpu().numpy())
        sure_B = self.probabilities(outputs).gather(1, said_B[:, None]).squeeze(1).tolist()
        return [{"label": label, "probability": p} for label, p in zip(labels, sure_B, strict=True)]

    def explain(self, model: nn.Module, item: Any, best: int | None = None) -> Explanation:
        """The probabilities of all labels, and what each step contributes to the log-probability of the answer."""
        _, inputs, lengths_B = self.alone(model, item)
        with torch.inference_mode():
            outputs = model(inputs, lengths_to_device(lengths_B, model))
            said, sure_V = int(self.likeliest(outputs)[0]), self.probabilities(outputs)[0].double().cpu().numpy()

        def log_probability(outputs: Tensor, _: Tensor) -> Tensor:
            return self.probabilities(outputs)[:, said, None].clamp(min=1e-30).log()

        steps, found = self.contributions(model, item, log_probability)
        token = self.encoding.target.vocabulary.token
        output = f"log p({token(said)})"
        explained = contributed(self.encoding.input, item, steps, found, [output], "nats")
        order = len(SPECIALS) + np.argsort(-sure_V[len(SPECIALS) :], kind="stable")
        explained.choices = [{"label": token(int(id)), "probability": float(sure_V[id])} for id in order[:best]]
        return explained

    def baselines(self, train: Examples, test: Examples) -> dict[str, float]:
        """The most common label of the training data."""
        labels, test_labels = train.fields["target"].tokens, test.fields["target"].tokens
        if not len(labels) or not len(test_labels):
            return {}
        return {"commonest label": float((test_labels == np.bincount(labels).argmax()).mean())}

    def final_metrics(self, model: nn.Module, split: Examples) -> dict[str, float]:
        """For two labels, average precision and the area under the ROC curve. The second label is the positive
        class."""
        if self.target_field.size != len(SPECIALS) + 2:
            return {}
        known = _known(self.examined(model, split))
        found = {"average_precision": average_precision(*known), "roc_auc": roc_auc(*known)}
        return {name: value for name, value in found.items() if math.isfinite(value)}

    @torch.inference_mode()
    def examined(self, model: nn.Module, split: Examples) -> list[Examined]:
        """The prediction for each example, in any order."""
        model.eval()
        found: list[Examined] = []
        for batch in self.each_once(split):
            outputs, targets, _ = self.outputs(model, batch)
            wanted_B = targets[:, 0]
            probabilities_BV = self.probabilities(outputs).double().cpu()
            nats_B = -probabilities_BV.gather(1, wanted_B[:, None]).clamp(min=1e-30).log().squeeze(1)
            first_B, last_B = probabilities_BV[:, [len(SPECIALS), -1]].clamp(min=1e-300).log().T
            log_odds_B = last_B - first_B
            columns = (batch.rows, wanted_B, self.likeliest(outputs), nats_B, log_odds_B)
            found += map(Examined._make, zip(*(column.tolist() for column in columns), strict=True))
        return found

    def findings(self, model: nn.Module, split: Examples) -> list[Finding]:
        """The confusion matrix, and predictions with the largest losses first; for two labels, the precision-recall and
        ROC curves."""
        if not len(split):
            return []
        rows = sorted(self.examined(model, split), key=lambda one: (-one.nats, one.row))
        vocabulary = self.encoding.target.vocabulary
        classes = vocabulary.tokens[len(SPECIALS) :]
        confusion = np.zeros((len(classes) + 1, len(classes)))
        for one in rows:
            confusion[max(one.wanted - len(SPECIALS), -1), one.said - len(SPECIALS)] += 1
        named = (*classes, UNSEEN) if confusion[-1].any() else classes
        shown = rows[:SHOWN]
        table = {
            "input": [self.shown_input(split, one.row) for one in shown],
            "label": [vocabulary.token(one.wanted) for one in shown],
            "predicted": [vocabulary.token(one.said) for one in shown],
            "right": [one.wanted == one.said for one in shown],
            "surprise_nats": [round(one.nats, 3) for one in shown],
        }
        found: list[Finding] = [confusion_matrix(confusion[: len(named)], named, classes), Table("predictions", table)]
        scores, is_positive = _known(rows)
        if len(classes) == 2 and is_positive.any() and not is_positive.all():
            found.append(Thresholds("thresholds", "precision-recall and ROC curves", classes[1], scores, is_positive))
        return found


def _known(rows: Sequence[Examined]) -> tuple[np.ndarray, np.ndarray]:
    """For two labels, the scores of the second and whether it is the label, without labels that aren't in the training
    data."""
    known = [one for one in rows if one.wanted >= len(SPECIALS)]
    is_positive = [one.wanted > len(SPECIALS) for one in known]
    return np.array([one.log_odds for one in known], dtype=np.float64), np.array(is_positive, dtype=bool)


def confusion_matrix(counts: np.ndarray, labels: Sequence[str], predicted: Sequence[str]) -> Matrix:
    """The confusion matrix as shares of each label's examples, from their counts."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    about = ("confusion", "confusion matrix", shares, tuple(labels), tuple(predicted), "label", "predicted")
    return Matrix(*about, cells=True, counts=counts)


def balanced_weights(labels: np.ndarray, size: int) -> np.ndarray:
    """N / (K count) for each of `size` ids, for N labels with K different ones (King and Zeng 2001). The mean weight
    over `labels` is 1; ids that don't occur have weight 0."""
    counts_V = np.bincount(labels, minlength=size)
    occur_V = counts_V > 0
    return occur_V * len(labels) / (occur_V.sum() * np.maximum(counts_V, 1))


def macro_f1(confusion_VV: Tensor, count: float) -> float:
    """The mean F1 of the labels that occur or are predicted; rows are labels, columns predictions."""
    right_V, said_V, there_V = confusion_VV.diagonal(), confusion_VV.sum(0), confusion_VV.sum(1)
    occurs_V = (said_V + there_V) > 0
    return float((2 * right_V[occurs_V] / (said_V + there_V)[occurs_V]).mean())
