"""Learning rate schedules, by step or by evaluation results."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Any, Literal

from pydantic import Field as Bounds


@dataclass
class Schedule:
    """A factor on the learning rate: linear warm-up over `warmup_steps`, then by `schedule` constant, a half cosine
    that reaches `final_factor` after the last step, or halved after `plateau_patience` evaluations without improvement,
    down to `final_factor`."""

    steps: int
    _: KW_ONLY
    schedule: Literal["constant", "cosine", "plateau"] = "cosine"
    warmup_steps: Annotated[int, Bounds(ge=0)] = 0
    final_factor: Annotated[float, Bounds(ge=0, le=1)] = 0.05
    plateau_patience: Annotated[int, Bounds(gt=0)] = 2

    halvings = bad_evaluations = 0

    def factor(self, step: int) -> float:
        """The factor for update `step` (the first is 0)."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.schedule == "plateau":
            return max(0.5**self.halvings, self.final_factor)
        if self.schedule == "constant":
            return 1.0
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.final_factor + (1 - self.final_factor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    def evaluated(self, improved: bool) -> None:
        """Report the result of an evaluation."""
        self.bad_evaluations = 0 if improved else self.bad_evaluations + 1
        if self.bad_evaluations >= self.plateau_patience:
            self.halvings, self.bad_evaluations = self.halvings + 1, 0

    def state(self) -> dict[str, Any]:
        return {"halvings": self.halvings, "bad_evaluations": self.bad_evaluations}

    def load(self, state: dict[str, Any]) -> None:
        self.halvings, self.bad_evaluations = state["halvings"], state["bad_evaluations"]
