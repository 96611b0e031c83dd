"""Requests that come together are drawn together, and each gets exactly what it would get alone."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.bundle import Bundle
from components.errors import UserError
from components.serving import batching
from components.serving.batching import Batcher, Deadline
from components.serving.models import Served
from components.serving.problems import Busy, Late, Limits
from components.tracking.base import ModelRef

pytest_plugins = ["native_fixtures", "serving_fixtures", "tracking_fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore:Operation with range is deprecated", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def served(bundles: dict[str, Bundle]) -> dict[str, Served]:
    return {n: Served(b, ModelRef(n, "1", ""), Batcher(b.model, Limits())) for n, b in bundles.items()}


def ids(made: Any) -> list[Any]:
    return [(one.ids.tolist(), one.nats_per_token, one.ended) for one in made.sampled]


asked = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["tales", "tales", "names", "four-voices"]),
        "seed": st.integers(0, 2**40),
        "settings": st.fixed_dictionaries(
            {
                "count": st.integers(1, 4),
                "max_length": st.integers(1, 50),
                "temperature": st.sampled_from([0.0, 0.7, 1.0]),
                "top_p": st.sampled_from([0.8, 1.0]),
                "precision": st.sampled_from(["float32", "float32", "int8"]),
            }
        ),
        "prompt": st.text("the casondg;. ", min_size=1, max_size=9) | st.sampled_from(["the ", "the cat sat " * 8]),
    }
)


@pytest.mark.slow
@settings(max_examples=12)
@given(requests=st.lists(asked, min_size=2, max_size=12))
def test_each_request_gets_exactly_what_it_would_get_alone(served, bundles, requests) -> None:
    for request in requests:
        if request["model"] != "four-voices":
            request["settings"]["prompt"] = request["prompt"]
    with ThreadPoolExecutor(len(requests)) as pool:
        together = list(
            pool.map(lambda r: served[r["model"]].generate(r["settings"], r["seed"], Deadline(60)), requests)
        )
    for request, made in zip(requests, together, strict=True):
        alone = bundles[request["model"]].generate(request["settings"], seed=request["seed"])
        assert ids(made) == ids(alone)
        assert made.items == alone.items


@pytest.mark.slow
def test_requests_that_come_together_are_drawn_in_the_same_calls(bundles, compiler) -> None:
    batcher = Batcher(bundles["tales"].model, Limits())
    shared = Served(bundles["tales"], ModelRef("tales", "1", ""), batcher)
    long = {"count": 1, "max_length": 2000}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: shared.generate(long, seed, Deadline(60)), range(8)))
    assert max(batcher.calls) >= 4
    batcher.calls.clear()
    shared.generate(long, 0, Deadline(60))
    assert set(batcher.calls) == {1}, "alone it is alone"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["minimal", "rolls"])
def test_what_the_engine_does_not_know_is_drawn_one_after_the_other(served, bundles, name) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda seed: served[name].generate({}, seed, Deadline(60)), range(4)))
    for seed, one in enumerate(made):
        assert one.items == bundles[name].generate(seed=seed).items


@pytest.mark.slow
def test_one_that_cannot_be_begun_fails_alone(served) -> None:
    def ask(prompt: str) -> Any:
        return served["tales"].generate({"prompt": prompt, "max_length": 300}, 1, Deadline(60))

    with ThreadPoolExecutor(3) as pool:
        good, bad, other = (pool.submit(ask, prompt) for prompt in ("the ", "", "a "))
    assert good.result().items
    assert other.result().items
    with pytest.raises(UserError, match="needs a prompt"):
        bad.result()


@pytest.mark.slow
def test_what_takes_too_long_or_is_given_up_stops(served, slowly: None) -> None:
    slow = {"count": 8, "max_length": 8000}
    for name in ("tales", "minimal"):
        with pytest.raises(Late, match=r"longer than 0\.02 s"):
            served[name].generate(slow, 0, Deadline(0.02))
    deadline = Deadline(60)
    threading.Timer(0.05, lambda: setattr(deadline, "cancelled", True)).start()
    with pytest.raises(batching.Cancelled):
        served["tales"].generate(slow, 0, deadline)
    end = time.monotonic() + 20
    while served["tales"].batcher._sequences:
        assert time.monotonic() < end, "nobody waits for it, and still it is drawn"
        time.sleep(0.02)


@pytest.mark.slow
def test_too_many_sequences_at_once_are_refused_and_the_next_are_not(bundles, slowly: None) -> None:
    batcher = Batcher(bundles["tales"].model, Limits(sequences=4))
    busy = Served(bundles["tales"], ModelRef("tales", "1", ""), batcher)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(busy.generate, {"count": 4, "max_length": 8000}, 0, Deadline(60))
        while not batcher.calls:
            time.sleep(0.005)
        with pytest.raises(Busy, match="are waiting"):
            busy.generate({"count": 1}, 0, Deadline(60))
        first.result()
    assert busy.generate({"count": 4, "max_length": 5}, 0, Deadline(60)).items


def test_what_would_cost_too_much_is_refused_before_it_begins(served) -> None:
    for name in ("tales", "minimal", "rolls"):
        with pytest.raises(UserError, match="can be sampled in one request"):
            served[name].generate({"count": 64, "max_length": 20_000}, 0, Deadline(60))
