"""Ordinal regression: an integer rating for a whole sequence (many-to-one).

Shapes: B batch, K thresholds between the ratings, V ratings with the specials.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from components.datasets.store import Examples
from components.encodings.pair import Pair
from components.encodings.ratings import Ratings
from components.encodings.vocabulary import SPECIALS
from components.errors import UserError
from components.layers.base import moved
from components.models.ensemble import mean_thresholds
from components.models.ordinal import Ordinal
from components.models.pooled import Pooled
from components.tasks.base import Tally
from components.tasks.classification import Classification
from components.tasks.explanation import Explanation


class OrdinalRegression(Classification):
    """The loss is the sum, over the K thresholds, of the cross-entropies of "more than this rating" (Niu et al. 2016).
    The prediction is the median: the rating above all thresholds that are passed with a probability over ½.

    Metrics: the mean absolute error in ratings, mae, the primary metric; accuracy; macro F1; nats per example of the
    correct rating.
    """

    model = Ordinal
    join = staticmethod(mean_thresholds)
    columns = {"label": "whole", "probability": "number"}
    primary = "mae"
    lower_is_better = True
    loss_unit = "nats per example, summed over thresholds"

    def __init__(self, encoding: Pair, framing: str, /) -> None:
        super().__init__(encoding, framing)
        if not isinstance(encoding.target, Ratings):
            raise UserError("the task ordinal needs the target encoding {kind: ratings}", where="encoding.target")

    @classmethod
    def model_kinds(cls) -> dict[str, list[Any]]:
        return {name: [cls.model, Pooled, *others[1:]] for name, others in super().model_kinds().items()}

    @property
    def output_size(self) -> int:
        return len(self.encoding.target.classes) - 1

    def tally(self, outputs: Tensor, targets: Tensor, lengths_B: Tensor) -> Tally:
        places_B1 = moved(targets, outputs.device) - len(SPECIALS)
        passed_BK = (places_B1 > torch.arange(outputs.shape[1], device=outputs.device)).float()
        nats = nn.functional.binary_cross_entropy_with_logits(outputs.float(), passed_BK, reduction="sum")
        return Tally(nats, len(targets))

    def metrics(self, outputs: Tensor, targets: Tensor, lengths_B: Tensor) -> dict[str, Tally]:
        away_B = (self.likeliest(outputs).cpu() - targets[:, 0]).abs()
        nats_B = -self.probabilities(outputs).cpu().gather(1, targets).clamp(min=1e-30).log()
        return {
            "mae": Tally(away_B.sum().item(), len(away_B)),
            **super().metrics(outputs, targets, lengths_B),
            "nats_per_example": Tally(nats_B.sum().item(), len(away_B)),
        }

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Probabilities of the ratings [B, V], the differences of the thresholds' probabilities."""
        passed_BK = outputs.double().sigmoid().cummin(dim=1).values
        edges = [passed_BK.new_ones(len(outputs), 1), passed_BK, passed_BK.new_zeros(len(outputs), 1)]
        none_B4 = passed_BK.new_zeros(len(outputs), len(SPECIALS))
        return torch.cat([none_B4, -torch.cat(edges, dim=1).diff(dim=1)], dim=1)

    def likeliest(self, outputs: Tensor) -> Tensor:
        """The median [B], as ids, which minimises the expected absolute error."""
        return (outputs > 0).sum(dim=1) + len(SPECIALS)

    def answers(self, model: nn.Module, outputs: Tensor, lengths_B: np.ndarray) -> list[dict[str, Any]]:
        """The rating of each row, an integer, with its probability."""
        said = super().answers(model, outputs, lengths_B)
        return [answer | {"label": int(answer["label"])} for answer in said]

    def explain(self, model: nn.Module, item: Any, best: int | None = None) -> Explanation:
        explained = super().explain(model, item, best)
        explained.choices = [choice | {"label": int(choice["label"])} for choice in explained.choices]
        return explained

    def baselines(self, train: Examples, test: Examples) -> dict[str, float]:
        """The median of the training data."""
        ratings, test_ratings = (split.fields["target"].tokens.astype(np.int64) for split in (train, test))
        if not len(ratings) or not len(test_ratings):
            return {}
        median = np.sort(ratings)[len(ratings) // 2]
        return {"median": float(np.abs(test_ratings - median).mean())}
