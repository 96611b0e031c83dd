"""Promotion to champion and acceptance of results: decisions from plain data, without a store."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Literal

from components.errors import UserError, meant
from components.render.figures import figure

# tags of a model version that promotion uses
METRIC, VALUE, TEST_DIGEST = "primary.metric", "primary.value", "test.digest"
BASELINE, BASELINE_VALUE = "baseline.name", "baseline.value"

# words in a metric's name that show which direction is better
_HIGHER = frozenset(["accuracy", "f1", "precision", "recall", "bleu", "chrf", "auc", "right", "exact"])
_LOWER = frozenset(["nats", "bits", "perplexity", "error", "errors", "mse", "mae", "loss", "cer", "wer", "wrong"])

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
CONDITION = re.compile(r"\s*(<=|>=|<|>)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*", re.ASCII)


def promotion_tags(
    metric: str, value: float, test_digest: str, baseline: tuple[str, float] | None = None
) -> dict[str, str]:
    """The tags for `decide`: the primary metric, its exact value, the digest of the test data, and the strongest
    baseline with its value."""
    tags = {METRIC: metric, VALUE: repr(float(value)), TEST_DIGEST: test_digest}
    return tags | ({BASELINE: baseline[0], BASELINE_VALUE: repr(float(baseline[1]))} if baseline else {})


def decide(
    candidate: Mapping[str, str], champion: Mapping[str, str] | None, *, higher_is_better: bool
) -> tuple[Literal["champion", "challenger"], str]:
    """The candidate's alias and the reason in one sentence, from the `promotion_tags` of both.

    It becomes champion if there is none yet, or if it is strictly better in the same metric on the same test data.
    Values on different data aren't compared. A model that isn't better than its baseline never becomes champion.
    """
    value = _value(candidate)
    metric = candidate.get(METRIC, "")
    if not metric or not math.isfinite(value):
        return "challenger", f"{metric or 'the primary metric'} is {candidate.get(VALUE, 'missing')}, not a number"
    least = _number(candidate.get(BASELINE_VALUE))
    if value <= least if higher_is_better else value >= least:
        than = "no better" if value == least else "worse"
        return "challenger", f"{metric} {value:.6g} is {than} than the baseline “{candidate[BASELINE]}” ({least:.6g})"
    if champion is None:
        return "champion", f"the first version, {metric} {value:.6g}"
    if champion.get(METRIC) != metric:
        return "challenger", f"its metric is {metric}, the champion's is {champion.get(METRIC) or 'unknown'}"
    digest = candidate.get(TEST_DIGEST)
    if not digest or champion.get(TEST_DIGEST) != digest:
        theirs = champion.get(TEST_DIGEST) or "unknown"
        return "challenger", f"tested on other data ({(digest or 'unknown')[:12]}) than the champion ({theirs[:12]})"
    best = _value(champion)
    if not math.isfinite(best):
        return "champion", f"{metric} {value:.6g}, the champion's is not a number"
    better = value > best if higher_is_better else value < best
    direction = "higher" if higher_is_better else "lower"
    if better:
        return "champion", f"{metric} {value:.6g} beats the champion's {best:.6g} ({direction} is better)"
    return "challenger", f"{metric} {value:.6g} doesn't beat the champion's {best:.6g} ({direction} is better)"


def parse_condition(text: str, *, where: str | None = None) -> tuple[str, float]:
    """A condition such as "< 0.75" as (sign, bound).

    Raises:
        UserError: it isn't one of < <= > >= followed by a finite number.
    """
    match = CONDITION.fullmatch(text) if isinstance(text, str) and len(text) <= 80 else None
    if match is None or not math.isfinite(float(match[2])):
        raise UserError(
            f"{str(text)[:80]!r} isn't a bound", where=where, hint='write <, <=, > or >= and a number, e.g. "< 0.75"'
        )
    return match[1], float(match[2])


def meets(accept: Mapping[str, str], metrics: Mapping[str, float]) -> list[str]:
    """The conditions of a recipe's `accept` that the metrics don't meet, one sentence each."""
    problems = []
    for name, text in accept.items():
        try:
            sign, bound = parse_condition(text, where=f"accept.{name}")
        except UserError as error:
            problems.append(str(error).replace("\n", "; "))
            continue
        if name not in metrics:
            near = meant(name, metrics, ", did you mean {!r}?")
            problems.append(f"accept.{name}: no such metric{near} Measured: {', '.join(sorted(metrics)) or 'none'}")
        elif not _COMPARE[sign](metrics[name], bound):  # false for NaN, whatever the sign
            problems.append(f"{name} is {metrics[name]:.6g}, but accept requires {sign} {bound:.6g}")
    return problems


def lower_is_better(metric: str) -> bool | None:
    """Whether lower values of a metric are better, from the words of its name; None if they don't show it."""
    words = set(re.split(r"[^a-z0-9]+", metric.rpartition("/")[2].lower()))
    return None if bool(words & _HIGHER) == bool(words & _LOWER) else bool(words & _LOWER)


def shown_figure(tags: Mapping[str, str]) -> str:
    """A version's metric with its unit, e.g. "1.9690 nats/char", followed by " (val)" if it isn't on test."""
    split, _, name = tags.get(METRIC, "").partition("/")
    if not name:
        return ""
    unit = name.replace("_per_", "/").replace("_", " ")
    return f"{figure(_value(tags))} {unit}{'' if split == 'test' else f' ({split})'}"


def _value(tags: Mapping[str, str]) -> float:
    return _number(tags.get(VALUE))


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
