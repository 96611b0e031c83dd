"""Two versions that are judged at one time: each is compared with the champion that there is when it gets its alias."""

from __future__ import annotations

import contextlib
import threading

import pytest

from components.tracking.mlflow_backend import MlflowStore
from components.tracking.promotion import decide, promotion_tags

pytest_plugins = ["tracking_fixtures"]
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("first", ["good", "bad"])
def test_of_two_that_end_together_the_better_one_is_champion(settings, monkeypatch, first: str) -> None:
    """Both read before either writes, if anything lets them."""
    store = MlflowStore(settings)
    store.client.create_registered_model("tunes")
    for value in (0.5, 0.9):
        tags = promotion_tags("test/nats", value, "d")
        store.client.create_model_version("tunes", source="file:///nowhere", tags=tags)
    versions = {"good": "1", "bad": "2"}
    both, read = threading.Barrier(2), MlflowStore.champion

    def slowly(self, name: str):
        champion = read(self, name)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(timeout=0.5)
        return champion

    monkeypatch.setattr(MlflowStore, "champion", slowly)

    def end(which: str) -> None:
        own = MlflowStore(settings)
        ref = own.find("tunes", versions[which])

        def judge(champion):
            return decide(own.tags(ref), own.tags(champion) if champion else None, higher_is_better=False)

        own.settle(ref, judge)

    others = [threading.Thread(target=end, args=(each,)) for each in sorted(versions, key=lambda each: each != first)]
    for thread in others:
        thread.start()
    for thread in others:
        thread.join()
    monkeypatch.undo()
    assert store.champion("tunes").version == versions["good"]
    reasons = [change.why for change in store.alias_changes("tunes") if change.alias == "champion"]
    assert sum("the first version" in why for why in reasons) == 1


def test_a_change_by_another_machine_is_seen_before_the_alias_is_set(settings, monkeypatch) -> None:
    store = MlflowStore(settings)
    store.client.create_registered_model("tunes")
    refs = []
    for value in (0.9, 0.5):
        store.client.create_model_version(
            "tunes", source="file:///nowhere", tags=promotion_tags("test/nats", value, "d")
        )
        refs.append(store.find("tunes", "latest"))
    asked = []

    def judge(champion):
        if not asked:  # while we decide
            store.set_alias(refs[1], "champion")
        asked.append(champion)
        return decide(store.tags(refs[0]), store.tags(champion) if champion else None, higher_is_better=False)

    ref, why = store.settle(refs[0], judge)
    assert (ref.alias, len(asked)) == ("challenger", 2), why
    assert store.champion("tunes").version == "2"
