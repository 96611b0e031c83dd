"""Settings from signatures: the keyword-only parameters of a class or function are its settings, with types, bounds and
defaults. A recipe's settings are checked against them. There are no configuration classes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_type_hints

from components.errors import UserError, meant, nearest
from components.paths import user_paths
from components.registry import configured, names, resolve

LONGEST_GIVEN = 200  # characters of a wrong value quoted in a message


@dataclass(frozen=True)
class Nested:
    """Marks an option (`Annotated[dict[str, Any], Nested("encoding")]`) that is a registered kind with its options."""

    table: str


@dataclass(frozen=True)
class UserPath:
    """Marks an option (`Annotated[str | None, UserPath()]`) that names a user's file or folder, or one for each split.
    Recipes store it as an absolute path, resolved from the command's folder, for workers and schedules that run
    elsewhere. With a `pattern`, only a matching value is a path."""

    pattern: str = ""

    def names(self, value: Any) -> bool:
        """Whether the option's value names a file or folder."""
        if not self.pattern:
            return value is not None
        return isinstance(value, str) and re.fullmatch(self.pattern, value) is not None


def targets(section: str, kind: str | None = None) -> list[Any]:
    """The classes and functions whose keyword-only parameters are the section's settings. `kind` is the kind that the
    section names."""
    return [resolve(section, kind or "")] if section in ("encoding", "task") else configured(section)


def generation_targets(task: Mapping[str, Any]) -> list[Any]:
    """The targets of the generation section, for a task that generates. Other tasks have none."""
    settings = resolve("task", task["kind"]).settings if task else None
    return [settings] if settings else []


def options_of(target: Any) -> dict[str, tuple[Any, Any]]:
    """The keyword-only parameters of a class or function: name → (type, default or ... if required). A class whose
    `__init__` takes `**settings` passes them on, and has the parameters of the next base class too; a dataclass has the
    fields of its base classes."""
    classes = inspect.getmro(target) if inspect.isclass(target) else ()
    found: dict[str, tuple[Any, Any]] = {}
    for owner in [owner for owner in classes if "__init__" in vars(owner)] or [target]:
        function = vars(owner)["__init__"] if classes else owner
        fields = classes and "__dataclass_fields__" in vars(owner)
        if fields:  # not `get_type_hints`: names in a field's type are those of the module of its own class
            hints = inspect.get_annotations(owner, eval_str=True)
        else:
            hints = get_type_hints(function, include_extras=True)
        parameters = inspect.signature(function).parameters
        for name in hints if fields else parameters:
            parameter = parameters.get(name)
            if parameter and parameter.kind is parameter.KEYWORD_ONLY and name not in found:
                found[name] = (hints.get(name, Any), ... if parameter.default is parameter.empty else parameter.default)
        passed_on = "settings" in parameters and parameters["settings"].kind is inspect.Parameter.VAR_KEYWORD
        if not (fields or passed_on):
            break
    return found


def check_options(
    section: str, values: Mapping[str, Any], targets: Iterable[Any], problems: list[str], extra: Mapping[str, Any] = {}
) -> dict[str, Any]:
    """Check `values` against the options of `targets` (and `extra`) and fill in defaults. Problems are appended."""
    from pydantic import ValidationError

    fields, model = _options_model({**extra}, tuple(targets)) if extra else _known_options(tuple(targets))
    try:
        # the prefix keeps option names clear of pydantic's own attribute names (copy, json, …)
        checked = model.model_validate({f"o_{name}": _as_written(value) for name, value in values.items()})
    except ValidationError as error:
        for item in _meant(_furthest(error.errors()), fields):
            problems.append(_explain(section, item, fields))
        return {}
    values = {name: getattr(checked, f"o_{name}") for name in fields}
    for name, (annotation, _) in fields.items():
        for mark in getattr(annotation, "__metadata__", ()):
            if isinstance(mark, Nested):
                values[name] = check_kind(f"{section}.{name}", mark.table, values[name], problems)
            if isinstance(mark, UserPath) and mark.names(values[name]):
                try:
                    values[name] = user_paths(values[name], where=f"{section}.{name}")
                except UserError as error:
                    problems.append(f"{error.where}: {error.what}")
    return values


def checked_options(section: str, values: Mapping[str, Any], targets: Iterable[Any]) -> dict[str, Any]:
    """As `check_options`.

    Raises:
        UserError: there are problems; all of them.
    """
    problems: list[str] = []
    checked = check_options(section, values, targets, problems)
    if problems:
        where, _, what = problems[0].partition(": ")
        raise UserError("; ".join([what, *problems[1:]]), where=where)
    return checked


def path_options(options: Mapping[str, tuple[Any, Any]]) -> dict[str, UserPath]:
    """The options that name users' files."""
    marks = {name: getattr(annotation, "__metadata__", ()) for name, (annotation, _) in options.items()}
    return {name: mark for name, found in marks.items() for mark in found if isinstance(mark, UserPath)}


def _options_model(fields: dict[str, Any], targets: tuple[Any, ...]) -> tuple[dict[str, Any], Any]:
    """The options, and a pydantic model that checks them."""
    from pydantic import ConfigDict, create_model

    for target in targets:
        fields |= options_of(target)
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=False)
    return fields, create_model("options", __config__=config, **{f"o_{n}": f for n, f in fields.items()})


@lru_cache(maxsize=256)
def _known_options(targets: tuple[Any, ...]) -> tuple[dict[str, Any], Any]:
    """Cached: building the model would dominate the time of a server's short requests."""
    return _options_model({}, targets)


def check_kind(section: str, table: str, values: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """A section that names a registered `kind`, checked against that class's options; {} if it is wrong."""
    kind = values.get("kind")
    if kind not in names(table):
        problems.append(f"{section}.kind: {unknown_kind(table, kind, names(table))}")
        return {}
    options = {key: value for key, value in values.items() if key != "kind"}
    before = len(problems)
    checked = check_options(section, options, targets(table, kind), problems)
    return {} if len(problems) > before else {**checked, "kind": kind}


def unknown_kind(what: str, kind: Any, choices: Collection[str]) -> str:
    """The message for an unknown kind."""
    said = f"unknown {what} {kind!r}{meant(str(kind), choices)}" if kind else "must be set"
    return f"{said} (choices: {', '.join(choices)})"


def _as_written(value: Any) -> Any:
    """YAML has lists only; a tuple-typed option takes them (pydantic's strict mode would not)."""
    return tuple(_as_written(item) for item in value) if isinstance(value, list) else value


def _furthest(errors: Sequence[Any]) -> list[Any]:
    """Of pydantic's errors for an option of several types, those of the type that accepted most of the value, probably
    the intended one."""
    depth: dict[str, int] = {}
    for item in errors:
        depth[item["loc"][0]] = max(len(item["loc"]), depth.get(item["loc"][0], 0))
    return [item for item in errors if len(item["loc"]) == depth[item["loc"][0]]]


def _meant(errors: Sequence[Any], fields: Mapping[str, Any]) -> list[Any]:
    """For a word similar to one of an option's choices, only the error about choices."""
    near = {item["loc"][0] for item in errors if item["type"] == "literal_error" and _near(item, fields)}
    return [item for item in errors if item["type"] == "literal_error" or item["loc"][0] not in near]


def _near(item: Mapping[str, Any], fields: Mapping[str, Any]) -> str | None:
    given = item["input"]
    return nearest(given, _choices(fields.get(item["loc"][0].removeprefix("o_")))) if isinstance(given, str) else None


def _explain(section: str, item: Mapping[str, Any], fields: Mapping[str, Any]) -> str:
    name, *rest = (str(part) for part in item["loc"])
    steps = [part for before, part in zip([name, *rest], rest, strict=False) if part.isdigit() or before[:5] == "dict["]
    name = name.removeprefix("o_")
    key = ".".join([section, name, *steps])
    if item["type"] == "extra_forbidden":
        near = "data.coding" if key == "data.encoding" and "coding" in fields else elsewhere(section, name)
        if not near and section == "data" and (readers := readers_with(name)):
            which = ", ".join(readers[:3])
            ways = f"--set {key}=null removes it, --set data.reader={readers[0]} chooses one of them"
            return f"{key}: only exists for other readers ({which}); {ways}"
        if not near and section == "model" and (tasks := tasks_with(name)):
            return f"{key}: only exists for other tasks ({', '.join(tasks)}); --set {key}=null removes it"
        near = near or nearest(name, fields)
        meant = f"did you mean {near!r}?" if near else f"settings: {', '.join(fields) or 'none'}"
        return f"{key}: unknown setting; {meant} (--set {key}=null removes it)"
    if item["type"] == "missing":
        return f"{key}: must be set"
    message = item["msg"][0].lower() + item["msg"][1:].replace("valid tuple", "list, such as [a, b]")
    near = _near(item, fields)
    meant = f"; did you mean {near!r}?" if near else ""
    given = repr(item["input"])
    given = given if len(given) <= LONGEST_GIVEN else f"{given[: LONGEST_GIVEN - 1]}…"  # a prompt may be long
    return f"{key}: {message}, not {given}{meant}"


def _choices(option: Any) -> list[str]:
    return list(_words(option[0])) if option else []


def _words(annotation: Any) -> Iterator[str]:
    """The words of a Literal, or of one inside a union."""
    for part in getattr(annotation, "__args__", ()):
        if isinstance(part, str):
            yield part
        else:
            yield from _words(part)


def readers_with(name: str) -> list[str]:
    """The readers that have a setting of this name."""
    return [kind for kind in names("reader") if name in options_of(resolve("reader", kind))]


def tasks_with(name: str) -> list[str]:
    """The tasks whose models have a setting of this name with every cell, none of which has it itself."""
    found = {task: resolve("task", task).model_kinds() for task in names("task")}
    cells = {cell: options_of(resolve("cell", cell)) for cell in names("cell")}
    return [
        task
        for task, kinds in found.items()
        if all(name not in own and any(name in options_of(part) for part in kinds[cell]) for cell, own in cells.items())
    ]


def elsewhere(section: str, name: str) -> str | None:
    """The key of a setting given in the wrong section: readers and encodings are easily confused."""
    table = {"encoding": "reader", "data": "encoding"}.get(section, "")
    if not table or not any(name in options_of(resolve(table, kind)) for kind in names(table)):
        return None
    return f"{'data' if table == 'reader' else 'encoding'}.{name}"
