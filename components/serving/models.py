"""The server's cache of registered models: found by name, loaded once, the least recently used evicted."""

from __future__ import annotations

import gc
import json
import logging
import re
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import create_model

from components.answers import answered, explained
from components.bundle import Bundle, Generation, load_bundle, make_task
from components.encodings.base import encoding_from_state
from components.encodings.doubts import Doubts
from components.errors import UserError
from components.options import generation_targets
from components.serving.batching import Batcher, Deadline, Shared, Watch, affordable, turn
from components.serving.problems import Busy, Limits, NotFound, Refusal
from components.serving.requests import Description, Model, Strict, Version, settings_fields
from components.tasks.explanation import Explanation
from components.tasks.language_model import LanguageModel
from components.tracking.base import ModelRef
from components.tracking.mlflow_store import MlflowStore
from components.use.description import describe
from components.use.opening import PATTERN, Opened, find
from components.use.scoring import Scored, score

FRESH_SECONDS = 2.0  # how long answers of the store are cached: a promotion is seen after that time at the latest
PREDICT_AT_ONCE = 64  # inputs between two checks of the deadline

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Served:
    """A loaded model with its batcher."""

    bundle: Bundle
    ref: ModelRef
    batcher: Batcher

    @property
    def opened(self) -> Opened:
        return Opened(self.bundle, self.ref.name, self.ref.version, self.ref.run_id)

    def generate(
        self, settings: Mapping[str, Any], seed: int, deadline: Deadline, watch: Watch | None = None
    ) -> Generation:
        """As `Bundle.generate`, batched with the other requests."""
        bundle = self.bundle
        if bundle.task.settings is None:
            return bundle.generate(settings, seed=seed)  # raises: the task doesn't generate
        if isinstance(bundle.task, LanguageModel):
            return replace(bundle, model=Shared(self.batcher, deadline, watch)).generate(settings, seed=seed)
        asked = {**bundle.recipe["generation"], **settings}
        affordable(asked.get("count", 1), asked.get("max_length", 1), self.batcher.limits)
        with turn(self.batcher.alone, deadline):
            return bundle.generate(settings, seed=seed, progress=deadline.check)

    def predict(self, items: list[Any], deadline: Deadline) -> list[dict[str, Any]]:
        """As `components.answers.answered`, a few items at a time."""
        return self._in_turns(lambda n, some: answered(self.bundle, some, first=n), items, deadline, PREDICT_AT_ONCE)

    def explain(self, items: list[Any], best: int | None, deadline: Deadline) -> list[Explanation]:
        """As `components.answers.explained`, one item at a time."""
        return self._in_turns(lambda n, one: explained(self.bundle, one, best, first=n), items, deadline)

    def score(self, texts: list[str], deadline: Deadline, doubts: Doubts) -> list[Scored]:
        """As `components.use.scoring.score`, one text at a time."""
        return self._in_turns(lambda n, one: score(self.bundle, one, doubts, where=f"texts[{n}]"), texts, deadline)

    def _in_turns(
        self, ask: Callable[[int, list[Any]], list[Any]], items: list[Any], deadline: Deadline, at_once: int = 1
    ) -> list[Any]:
        """The results of `ask` for a few items at a time, with the number of the first."""
        found = []
        for start in range(0, len(items), at_once):
            with turn(self.batcher.alone, deadline):
                deadline.check()
                found += ask(start, items[start : start + at_once])
        return found


class Models:
    """The models of a store, with caches. Thread-safe."""

    def __init__(self, store: MlflowStore, limits: Limits) -> None:
        self.store, self.limits = store, limits
        self._lock = threading.Lock()
        self._store_lock = threading.Lock()  # so that concurrent requests ask the store once
        self._found: dict[str, tuple[float, Any]] = {}
        self._open: OrderedDict[ModelRef, Served] = OrderedDict()
        self._loading = threading.Lock()
        self._used: weakref.WeakSet[Served] = weakref.WeakSet()  # in memory: cached, or evicted and still in use
        self._described: dict[ModelRef, Description] = {}

    @property
    def in_memory(self) -> list[str]:
        with self._lock:
            return [f"{ref.name}@{ref.version}" for ref in self._open]

    def find(self, selector: str) -> ModelRef:
        """The model that NAME (its champion), NAME@champion, NAME@3 or NAME@latest means.

        Raises:
            NotFound: there is none; Busy: the store doesn't respond.
        """
        if not re.fullmatch(PATTERN, selector):
            raise NotFound(f"{selector[:80]!r} isn't a valid model name", where="model")
        return self._fresh(selector, lambda: replace(find(selector, self.store), alias=""))

    def all(self) -> list[Model]:
        """Every registered model."""
        return self._fresh("", self._all)

    def describe(self, selector: str) -> Description:
        """The description of a version, without loading its weights."""
        ref = self.find(selector)
        if ref not in self._described:
            self._described[ref] = described(ref, self._folder(ref))
        return self._described[ref]

    def open(self, selector: str) -> Served:
        """The model, from the cache or loaded now.

        Raises:
            NotFound: no such model; Busy: it can't be loaded.
        """
        ref = self.find(selector)
        if (served := self._at_hand(ref)) is not None:
            return served
        with self._loading:  # one at a time, so that concurrent requests load a model once
            if (served := self._at_hand(ref)) is not None:
                return served
            if len(self._used) >= 2 * self.limits.models:
                gc.collect()
            if (used := len(self._used)) >= 2 * self.limits.models:
                raise Busy(f"{used} models are being used", where="model", hint="try again in a moment")
            folder = self._folder(ref)
            try:
                bundle = load_bundle(folder)
            except UserError as error:
                raise _unavailable(ref, error) from error
            served = Served(bundle, ref, Batcher(bundle.model, self.limits))
            self._used.add(served)
            with self._lock:
                self._open[ref] = served
                while len(self._open) > self.limits.models:  # requests that use it still hold it
                    self._open.popitem(last=False)
        return served

    def _at_hand(self, ref: ModelRef) -> Served | None:
        with self._lock:
            if ref in self._open:
                self._open.move_to_end(ref)
            return self._open.get(ref)

    def _fresh(self, key: str, ask: Callable[[], Any]) -> Any:
        """The result of `ask`, cached for FRESH_SECONDS."""
        with self._store_lock:
            asked, answer = self._found.get(key, (0.0, None))
            if not asked or time.monotonic() - asked > FRESH_SECONDS:
                if len(self._found) > 1000:
                    self._found.clear()
                try:
                    answer = ask()
                except Refusal:
                    raise
                except UserError as error:
                    if error.__cause__ is not None:  # the store failed
                        raise Busy("the model store doesn't answer", where="model", hint="try again") from error
                    raise NotFound(error.what, where="model", hint=error.hint) from error
                self._found[key] = time.monotonic(), answer
        return answer

    def _folder(self, ref: ModelRef) -> Path:
        try:
            return self.store.fetch(ref)
        except UserError as error:
            raise _unavailable(ref, error) from error

    def _all(self) -> list[Model]:
        found = []
        for name in self.store.names():
            versions = self.store.versions(name)
            default = next((one.ref.version for one in versions if "champion" in one.aliases), None)
            shown = [Version(version=one.ref.version, aliases=list(one.aliases)) for one in versions]
            if versions:
                found.append(Model(name=name, versions=shown, default=default))
        return found


def _unavailable(ref: ModelRef, error: UserError) -> Busy:
    """Log the reason, which names folders of this machine, and return an error without it."""
    log.warning("%s can't be loaded: %s", ref, error)
    return Busy(
        "can't be loaded: its files differ from the registered ones", where=str(ref), hint="see the server's log"
    )


def described(ref: ModelRef, folder: Path) -> Description:
    """The description of the bundle in a folder."""
    info, state, recipe = (
        json.loads((folder / f"{n}.json").read_text("utf-8")) for n in ("model", "encoding", "recipe")
    )
    encoding = encoding_from_state(state)
    about = describe(make_task(recipe["task"], encoding, info["framing"]), encoding, recipe, info)
    voices = list(encoding.timeline(np.zeros(0, dtype=np.int64)).voices) if "keep" in about.accepts else []
    return Description(
        name=ref.name, version=ref.version, task=about.task, writes=about.writes, reads=about.reads,
        answers=about.task if about.reads else None,
        features=about.step_shape[0] if len(about.step_shape) == 1 else None,
        accepts=about.accepts, voices=voices, settings=settings_schema(recipe) if about.writes else {},
        trained_on=about.trained_on, metrics=about.metrics,
    )  # fmt: skip


def settings_schema(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Name → JSON schema of each generation setting, whose default is the one of the model's recipe."""
    fields = settings_fields(generation_targets(recipe["task"]))
    model = create_model("Settings", __base__=Strict, **{name: (kind, ...) for name, kind in fields.items()})
    properties = model.model_json_schema()["properties"]
    for name, one in properties.items():
        one.pop("title")  # repeats the name
        one["default"] = recipe["generation"].get(name)
    return properties
