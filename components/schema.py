"""Checks of a recipe's sections beyond their options, and of their combination."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from components.errors import UserError
from components.options import UserPath, check_options, options_of, path_options, targets, unknown_kind
from components.registry import names, resolve


def check_model(values: Mapping[str, Any], task: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Check the model section: `kind` is a cell or another kind that the task supports, with the task's model settings.

    Without a valid task nothing is checked: that problem is already reported.
    """
    if not task:
        return {}
    kinds = resolve("task", task["kind"]).model_kinds()
    kind = values.get("kind")
    if kind not in list(kinds):
        problems.append(f"model.kind: {unknown_kind('model', kind, kinds)}")
        return {}
    options = {key: value for key, value in values.items() if key != "kind"}
    before = len(problems)
    checked = check_options("model", options, kinds[kind], problems)
    if kind == "graph" and len(problems) == before:
        checked = resolve("task", task["kind"]).check_graph(checked, problems)
    elif kind in names("cell") and len(problems) == before:
        from components.layers.base import check_settings

        cell = resolve("cell", kind)
        try:
            check_settings(cell, {name: checked[name] for name in options_of(cell)})
        except UserError as error:
            problems.append(f"{error.where}: {error.what} ({error.hint})")
    return {} if len(problems) > before else {**checked, "kind": kind}


def check_windows(given: Mapping[str, Mapping[str, Any]], task: Mapping[str, Any]) -> list[str]:
    """Problems of settings in `given` without effect, since the task reads whole examples. Default values, as in a
    complete recipe, are accepted."""
    if not task or resolve("task", task["kind"]).windowed:
        return []
    idle = []
    for section, name in (("training", "tbptt_length"), ("evaluation", "window")):
        default = next(options[name][1] for target in targets(section) if name in (options := options_of(target)))
        if given[section].get(name, default) != default:
            key = f"{section}.{name}"
            idle.append(
                f"{key}: has no effect, since {task['kind']} reads whole examples (--set {key}=null removes it)"
            )
    return idle


def check_together(sections: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Problems between valid sections: whether the reader, the encoding and the task fit together."""
    data, encoding, task, model = (sections[name] for name in ("data", "encoding", "task", "model"))
    precision = sections["generation"].get("precision", "float32")
    problems: list[str] = []
    if encoding and task:
        form, wanted = resolve("encoding", encoding["kind"]).form, resolve("task", task["kind"]).form
        if form != wanted:
            fitting = [name for name in names("encoding") if resolve("encoding", name).form == wanted]
            problems.append(
                f"encoding.kind: {encoding['kind']} gives {form}, but the task {task['kind']} needs {wanted} "
                f"(choices: {', '.join(fitting)})"
            )
    if encoding and data:
        pairs = resolve("reader", data["reader"]).pairs
        if pairs != resolve("encoding", encoding["kind"]).pairs:
            what = "(input, target) pairs" if pairs else "single items"
            problems.append(
                f"encoding.kind: {encoding['kind']} doesn't fit data.reader {data['reader']}, which gives {what}"
            )
    if encoding and data and not problems:
        from components.datasets.sources import on_one_grid

        try:
            data |= on_one_grid(data, encoding, data["reader"])
        except UserError as error:
            problems.append(f"{error.where}: {error.what} ({error.hint})")
    if encoding:
        problems += _check_encodings("encoding", encoding)
    if encoding and model and not model.get("vectors") and _known_words(encoding):
        problems.append("encoding.known_words: needs model.vectors, which isn't set")
    if encoding and model and model.get("copy") and not resolve("encoding", encoding["kind"]).copy_lags:
        able = [name for name in names("encoding") if resolve("encoding", name).copy_lags]
        problems.append(
            f"model.copy: not supported by the encoding {encoding['kind']} (encodings that support it: "
            f"{', '.join(able)})"
        )
    if encoding and model and model.get("copy") and encoding.get("bpe"):
        problems.append("model.copy: merged tokens can't be copied (set encoding.bpe: 0, or model.copy: false)")
    if model and sections["generation"].get("form") and not model.get("copy"):
        problems.append("generation.form: only models that can copy repeat sections (set model.copy: true)")
    returning = model and encoding and sections["generation"].get("pattern_strength")
    if returning and not (model.get("copy") and encoding.get("patterns")):
        how = "set model.copy and encoding.patterns to true, or this to 0"
        problems.append(f"generation.pattern_strength: this model doesn't copy patterns ({how})")
    for name in ("cache", "dynamic"):
        if task and data and model and sections["evaluation"].get(name):
            one_text = task["kind"] == "language_model" and resolve("reader", data["reader"]).framing == "stream"
            if not one_text or model["kind"] == "graph":
                what = "only works for a language model of one long text that isn't a graph"
                problems.append(f"evaluation.{name}: {what}")
    if (
        encoding
        and task
        and model
        and sections.get("training", {}).get("sparse_rows")
        and _no_rows(encoding, task, model)
    ):
        ways = (
            "model.softmax: sampled, or model.tie_weights: false"
            if model.get("tie_weights")
            else "model.input: embedding"
        )
        problems.append(f"training.sparse_rows: each update of this model uses all rows of its tables (set {ways})")
    if data:
        problems += _check_val(data, sections)
    task_class = resolve("task", task["kind"]) if task else None
    if model and task_class and (task_class.settings or task_class.past_only):
        model_class = task_class.model_kinds()[model["kind"]][0]
        if not model_class.is_causal(model):
            name = "layers" if model["kind"] == "graph" else "bidirectional" if model.get("bidirectional") else "kind"
            problems.append(f"model.{name}: reads future steps, but {task['kind']} may only use the past")
        elif precision != "float32":
            from components.generation.engine import refused

            if why := refused(model, precision):
                problems.append(f"generation.precision: {precision} can't be used: {why} (use float32)")
    return problems


def _check_val(data: Mapping[str, Any], sections: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Problems of settings that need val, where there is none. Whether the user's own files give one is only known when
    they are read."""
    why = "which data.join_val makes part of train (change one of the two)" if data["join_val"] else ""
    if data["path"] is None and not data["split"][1] and not resolve("reader", data["reader"]).holds_splits:
        from components.datasets.cards import load_card

        files = load_card(data["dataset"]).files if data["dataset"] else []
        if "val" not in {file.split for file in files}:
            why = "but data.split has none (give it a fraction, or change this setting)"
            if data["join_val"]:
                return [f"data.join_val: needs val, {why}"]
    return [f"{name}: needs val, {why}" for name in needing_val(sections)] if why else []


def needing_val(sections: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The settings of training and evaluation that have no effect without val."""
    training, evaluation = sections.get("training", {}), sections.get("evaluation", {})
    found = {
        "training.patience": training.get("patience"),
        "training.schedule": training.get("schedule") == "plateau",
        "training.averaging": training.get("averaging") == "triggered",
        "evaluation.cache": evaluation.get("cache"),
        "evaluation.dynamic": evaluation.get("dynamic"),
    }
    return [name for name, needed in found.items() if needed]


def _no_rows(encoding: Mapping[str, Any], task: Mapping[str, Any], model: Mapping[str, Any]) -> bool:
    """Whether a model certainly has no table for sparse updates. Other cases are detected when the model is built."""
    if (
        model["kind"] == "graph"
        or model.get("softmax") == "sampled"
        or model.get("copy")
        or task["kind"] == "translation"
    ):
        return False
    from components.encodings.base import Encoding

    read = resolve("encoding", encoding.get("input", encoding)["kind"])
    if read.form in ("frames", "series", "strokes") or model.get("input") == "one_hot":
        return True
    return bool(model.get("tie_weights")) and read.context is Encoding.context  # tokens only, without context features


def _check_encodings(place: str, encoding: Mapping[str, Any]) -> list[str]:
    """Problems of an encoding and of those in it: which read several ids a step, and whether ranges are in order."""
    problems = []
    several = encoding["kind"] == "spelled" or encoding.get("stem")
    if several and place != "encoding.input":
        what = "gives several ids a step, which only an input can have"
        problems.append(f"{place}.{'kind' if encoding['kind'] == 'spelled' else 'stem'}: {what}")
    low, high = encoding.get("transpose", (0, 0))
    if low > high:
        problems.append(f"{place}.transpose: must go from a lower to a higher number, not [{low}, {high}]")
    for name, inner in encoding.items():
        problems += _check_encodings(f"{place}.{name}", inner) if isinstance(inner, Mapping) else []
    return problems


def _known_words(encoding: Mapping[str, Any]) -> bool:
    """Whether an encoding, or one inside it, uses the words of the vector file."""
    inner = (value for value in encoding.values() if isinstance(value, Mapping))
    return bool(encoding.get("known_words")) or any(map(_known_words, inner))


OF_FILES = ("data", "task", "model", "training")  # sections with paths of files
DATA = {
    "dataset": (str | None, None),
    "path": (Annotated[str | dict[str, str] | None, UserPath()], None),
    "reader": (str | None, None),
    "split": (tuple[float, float, float] | None, None),
    "fold": (str | None, None),
    "join_val": (bool, False),
}


def check_data(values: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Check the data section: a dataset card, or a path with a reader, and the reader's options.

    A `path` (relative to the command's folder) replaces the card's files. With a reader that generates its items and
    has a counterpart for files, a path is read by that counterpart, and a card by the card's reader.
    """
    from components.datasets.cards import load_card
    from components.datasets.folds import parse_fold
    from components.datasets.splits import DEFAULT_SPLIT, split_fractions

    dataset, path, reader = (values.get(key) for key in ("dataset", "path", "reader"))
    own = reader in names("reader") and resolve("reader", reader).own
    if own and resolve("reader", reader).gives_way and (dataset or path is not None):
        values = {key: value for key, value in values.items() if key != "reader"}
        reader = resolve("reader", reader).files_by if path is not None else None
        values, own = values | ({"reader": reader} if reader else {}), False
    if not own and not isinstance(dataset, str) and not isinstance(path, str | dict):
        problems.append("data: set dataset (a card in data/catalogue) or path (your own file)")
        return {}
    card = None
    if isinstance(dataset, str):
        try:
            card = load_card(dataset)
        except UserError as error:
            problems.append(
                f"data.dataset: {error.what} ({error.hint})" if error.hint else f"data.dataset: {error.what}"
            )
            return {}
    reader = reader or (card.reader if card else "text")
    try:
        target = resolve("reader", reader)
    except UserError:
        problems.append(f"data.reader: unknown reader {reader!r} (choices: {', '.join(names('reader'))})")
        return {}
    checked = check_options("data", values, [target], problems, extra=DATA)
    if not checked:
        return {}
    if own and path is not None:
        others = f"; {resolve('reader', reader).files_by} reads files" if resolve("reader", reader).files_by else ""
        problems.append(f"data.path: can't be set, since the reader {reader} makes its own data{others} (data.reader)")
    if target.in_package and path is not None:
        way_out = f"use --set data.reader={target.files_by}"
        problems.append(f"data.path: the reader {reader} reads an installed package; for your own files {way_out}")
    checked["reader"] = reader
    if checked["path"] is not None:
        # the user's file replaces the card's; the reader stays, but the card's split applies to its own files only
        checked["dataset"] = None
        path = checked["path"]
        if not isinstance(path, str) and (not set(path) <= {"train", "val", "test"} or "train" not in path):
            problems.append(
                f"data.path: give one path, or one each for train, val and test (at least train), not {sorted(path)}"
            )
    checked["split"] = checked["split"] or (tuple(card.split) if card and checked["dataset"] else DEFAULT_SPLIT)
    try:
        split_fractions(checked["split"])
    except UserError as error:
        problems.append(f"data.split: {error.what}: {error.hint}")
    try:
        if checked["fold"] is not None:
            parse_fold(checked["fold"])
    except UserError as error:
        problems.append(f"data.fold: {error.what}: {error.hint}")
    return checked


def path_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a recipe, as written, that name users' files: {"data.path": …, "model.vectors": …}."""
    data, task, model, training = (s if isinstance(s := values.get(name), Mapping) else {} for name in OF_FILES)
    options = {"data": dict(DATA), "model": {}}
    if data.get("reader") in names("reader"):
        options["data"] |= options_of(resolve("reader", data["reader"]))
    if task.get("kind") in names("task"):
        for target in resolve("task", task["kind"]).model_kinds().get(model.get("kind"), ()):
            options["model"] |= options_of(target)
    if training.get("start") is not None:
        options["training"] = {}
        for target in targets("training"):
            options["training"] |= options_of(target)
    return {
        f"{section}.{name}": values[section][name]
        for section, known in options.items()
        for name, mark in path_options(known).items()
        if isinstance(values.get(section), Mapping)
        and _is_path(values[section].get(name))
        and mark.names(values[section][name])
    }


def _is_path(value: Any) -> bool:
    """Whether it is one path, or one for each split; other values are reported when the recipe is checked."""
    return isinstance(value, str) or (isinstance(value, Mapping) and all(isinstance(v, str) for v in value.values()))


def check_accept(accept: Mapping[str, str]) -> list[str]:
    """Problems in the form of the bounds; whether a metric exists is only known after evaluation."""
    from components.tracking.promotion import parse_condition

    problems = []
    for metric, bound in accept.items():
        try:
            parse_condition(bound)
        except UserError as error:
            problems.append(f"accept.{metric}: {error.what}")
    return problems
