"""Classification: one label for a whole sequence (many-to-one). With one step it is one-to-one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from components.datasets.store import Examples
from components.encodings.vocabulary import SPECIALS
from components.layers.base import moved
from components.models.pooled import Pooled
from components.tasks.base import Finding, Matrix, Table, Tally
from components.tasks.examples import ExampleTask

SHOWN = 500  # rows of the table of predictions


class Classification(ExampleTask):
    """Metrics: accuracy, macro F1 (the mean of every label's F1, labels without an example left out), nats."""

    model = Pooled
    columns = {"label": "text", "probability": "number"}
    primary = "accuracy"
    counted = "examples"
    lower_is_better = False
    loss_unit = "nats per example"

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
        """Of the labels [B, V]; the specials, which stand for none, have 0."""
        specials = torch.arange(len(SPECIALS), device=outputs.device)
        return outputs.float().index_fill(1, specials, -torch.inf).softmax(dim=1)

    def likeliest(self, outputs: Tensor) -> Tensor:
        """The labels [B] that are answered, as ids."""
        return outputs[:, len(SPECIALS) :].argmax(dim=1) + len(SPECIALS)

    def answers(self, model: nn.Module, outputs: Tensor, lengths_B: np.ndarray) -> list[dict[str, Any]]:
        """The label, and its probability, of each row."""
        said_B = self.likeliest(outputs)
        labels = self.encoding.target.decode(said_B.cpu().numpy())
        sure_B = self.probabilities(outputs).gather(1, said_B[:, None]).squeeze(1).tolist()
        return [{"label": label, "probability": p} for label, p in zip(labels, sure_B, strict=True)]

    def baselines(self, train: Examples, test: Examples) -> dict[str, float]:
        """Always the commonest label of training."""
        labels, test_labels = train.fields["target"].tokens, test.fields["target"].tokens
        if not len(labels) or not len(test_labels):
            return {}
        return {"commonest label": float((test_labels == np.bincount(labels).argmax()).mean())}

    @torch.inference_mode()
    def findings(self, model: nn.Module, split: Examples) -> list[Finding]:
        """The confusion matrix, and predictions with the most surprising examples first."""
        if not len(split):
            return []
        model.eval()
        batches = self.batches(split, batch_size=64, window=0, seed=0, training=False)
        rows: list[tuple[float, int, int, int]] = []
        for batch in batches.epoch():
            outputs, targets, _ = self.outputs(model, batch)
            probabilities_BV = self.probabilities(outputs).double().cpu()
            wanted_B = targets[:, 0]
            nats_B = -probabilities_BV.gather(1, wanted_B[:, None]).clamp(min=1e-30).log().squeeze(1)
            columns = (nats_B, torch.from_numpy(batch.rows), wanted_B, self.likeliest(outputs))
            rows += list(zip(*(column.tolist() for column in columns), strict=True))
        rows.sort(key=lambda row: (-row[0], row[1]))
        vocabulary = self.encoding.target.vocabulary
        classes = vocabulary.tokens[len(SPECIALS) :]
        confusion = np.zeros((len(classes), len(classes)))
        for _, _, wanted, said in rows:
            if wanted >= len(SPECIALS):
                confusion[wanted - len(SPECIALS), said - len(SPECIALS)] += 1
        shown = rows[:SHOWN]
        table = {
            "input": [self.shown_input(split, row) for _, row, _, _ in shown],
            "label": [vocabulary.token(wanted) for _, _, wanted, _ in shown],
            "predicted": [vocabulary.token(said) for _, _, _, said in shown],
            "right": [wanted == said for _, _, wanted, said in shown],
            "surprise_nats": [round(nats, 3) for nats, *_ in shown],
        }
        shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
        matrix = Matrix(
            "confusion", "what is taken for what", shares, classes, classes, "label", "predicted", cells=True
        )
        return [matrix, Table("predictions", table)]


def macro_f1(confusion_VV: Tensor, count: float) -> float:
    """The mean F1 over labels that occur, as a label or as a prediction; rows are labels, columns predictions."""
    right_V, said_V, there_V = confusion_VV.diagonal(), confusion_VV.sum(0), confusion_VV.sum(1)
    occurs_V = (said_V + there_V) > 0
    return float((2 * right_V[occurs_V] / (said_V + there_V)[occurs_V]).mean())
