"""YAML → frozen Recipe. Every problem of a recipe is reported at once, with its dotted key and the way out.

There are no configuration classes: the keyword-only parameters of the class that a section names are that
section's schema, so a recipe can set exactly what the code takes.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml

from components.errors import UserError, nearest
from components.paths import user_paths
from components.provenance import digest_json
from components.registry import names

SECTIONS = ("data", "encoding", "task", "model", "training", "evaluation", "generation")
MAX_BYTES = 1 << 20
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Nested:
    """Marks an option (`Annotated[dict[str, Any], Nested("encoding")]`) that is itself a registered kind with options
    of its own."""

    table: str


@dataclass(frozen=True)
class UserPath:
    """Marks an option (`Annotated[str | None, UserPath()]`) that names a file or folder of the user's, or one for each
    split. The recipe holds it whole, from the folder that the command ran in, for workers and schedules run
    elsewhere."""


@dataclass(frozen=True)
class Recipe:
    """One run, fully resolved: every setting has its value, defaults included.

    `digest` covers all that changes the result; the name and the file do not.
    """

    name: str
    seed: int
    data: Mapping[str, Any]
    encoding: Mapping[str, Any]
    task: Mapping[str, Any]
    model: Mapping[str, Any]
    training: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    generation: Mapping[str, Any]
    accept: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data in the order of the YAML file; `Recipe.from_dict` takes it back."""
        sections = {name: copy.deepcopy(dict(getattr(self, name))) for name in SECTIONS}
        return {"seed": self.seed, **sections, "accept": dict(self.accept)}

    @property
    def digest(self) -> str:
        return digest_json(self.as_dict())

    @classmethod
    def from_dict(cls, name: str, values: Mapping[str, Any], *, where: str | None = None) -> Recipe:
        """Check `values` and fill in defaults.

        Raises:
            UserError: with every problem found, one a line.
        """
        problems: list[str] = []
        resolved = _resolve(values, problems)
        if not NAME.fullmatch(name):
            problems.append(f"the recipe's name {name!r} may hold only a–z, 0–9, - and _ (it names the model)")
        if problems:
            lines = "\n".join(f"  {line}" for line in problems)
            count = f"{len(problems)} problem{'s' * (len(problems) > 1)} in the recipe"
            raise UserError(
                f"{count}\n{lines}", where=where or name, hint="`reprise show chorales` shows a whole recipe"
            )
        return cls(name=name, **resolved)


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, with `--set` overrides ("a.b=c") applied.

    Raises:
        UserError: the file can't be read, isn't YAML, or has wrong settings (all of them are named).
    """
    values = load_yaml(path)
    for override in overrides:
        apply_override(values, override)
    return Recipe.from_dict(path.stem, values, where=str(path))


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases (no exponential expansion), without repeated keys, and with 2e-3 as a number."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.constructor.ConstructorError(None, None, "aliases (*name) are not allowed", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} isn't text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d[\d_]*)(?:\.[\d_]*)?(?:[eE][-+]?\d+)$|[-+]?\.[\d_]+(?:[eE][-+]?\d+)?$"),
    list("-+0123456789."),
)


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from a file, read safely and bounded."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"larger than {MAX_BYTES} bytes: not a recipe", where=str(path))
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(error.strerror or str(error), where=str(path), hint="`reprise recipes` lists recipes") from None
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 text (byte {error.start})", where=str(path)) from None
    values = parse_yaml(text, where=str(path))
    if not isinstance(values, dict):
        raise UserError("a recipe is a mapping of sections", where=str(path), hint=f"sections: {', '.join(SECTIONS)}")
    return values


def parse_yaml(text: str, *, where: str) -> Any:
    """The value of a piece of YAML."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UserError(f"{place}{getattr(error, 'problem', None) or error}", where=where) from None


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set "a.b=c" in nested `values`; c is read as YAML. null takes the setting away, so that its default holds;
    where null is a value itself (training.clip_norm), it is set."""
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise UserError(f"{override!r} isn't KEY=VALUE", where="--set", hint="for example: --set training.steps=500")
    *path, last = key.strip().split(".")
    node = values
    for part in path:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise UserError(f"{part!r} in {key!r} is a value, not a section", where="--set")
    value = parse_yaml(text, where=f"--set {key}")
    if value is None and not _null_is_a_value(key.strip()):
        node.pop(last, None)
    else:
        node[last] = value


def _null_is_a_value(key: str) -> bool:
    """Does null say something else than the default does, as for training.clip_norm?"""
    from components import schema

    section, _, name = key.partition(".")
    for target in schema.targets(section) if section in ("training", "evaluation") else ():
        annotation, default = options_of(target).get(name, (None, None))
        if default is not None and type(None) in get_args(annotation):
            return True
    return False


def options_of(target: Any) -> dict[str, tuple[Any, Any]]:
    """The keyword-only parameters of a class or function: name → (type, default or ... when required)."""
    function = target.__init__ if inspect.isclass(target) else target
    hints = get_type_hints(function, include_extras=True)
    return {
        name: (hints.get(name, Any), ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def check_options(
    section: str, values: Mapping[str, Any], targets: Iterable[Any], problems: list[str], extra: Mapping[str, Any] = {}
) -> dict[str, Any]:
    """`values` checked against the options of `targets` (and `extra`), defaults filled in; problems are appended."""
    from pydantic import ValidationError

    fields, model = _options_model({**extra}, tuple(targets)) if extra else _known_options(tuple(targets))
    try:
        # the prefix keeps option names clear of pydantic's own attribute names (copy, json, …)
        checked = model.model_validate({f"o_{name}": _as_written(value) for name, value in values.items()})
    except ValidationError as error:
        for item in error.errors():
            problems.append(_explain(section, item, fields))
        return {}
    values = {name: getattr(checked, f"o_{name}") for name in fields}
    for name, (annotation, _) in fields.items():
        for mark in getattr(annotation, "__metadata__", ()):
            if isinstance(mark, Nested):
                values[name] = check_kind(f"{section}.{name}", mark.table, values[name], problems)
            if isinstance(mark, UserPath) and values[name] is not None:
                try:
                    values[name] = user_paths(values[name], where=f"{section}.{name}")
                except UserError as error:
                    problems.append(f"{error.where}: {error.what}")
    return values


def path_options(options: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """The names of the options that name a user's files."""
    marks = {name: getattr(annotation, "__metadata__", ()) for name, (annotation, _) in options.items()}
    return [name for name, found in marks.items() if any(isinstance(mark, UserPath) for mark in found)]


def _options_model(fields: dict[str, Any], targets: tuple[Any, ...]) -> tuple[dict[str, Any], Any]:
    """The options, and a model that checks them."""
    from pydantic import ConfigDict, create_model

    for target in targets:
        fields |= options_of(target)
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=False)
    return fields, create_model("options", __config__=config, **{f"o_{n}": f for n, f in fields.items()})


@lru_cache(maxsize=256)
def _known_options(targets: tuple[Any, ...]) -> tuple[dict[str, Any], Any]:
    """Made once: a server would spend more time on it than on all else that a short request costs it."""
    return _options_model({}, targets)


def check_kind(section: str, table: str, values: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """A section that names a registered `kind`, checked against that class's options; {} when it is wrong."""
    from components import schema

    kind = values.get("kind")
    if kind not in names(table):
        problems.append(f"{section}.kind: {_unknown_kind(table, kind, names(table))}")
        return {}
    options = {key: value for key, value in values.items() if key != "kind"}
    before = len(problems)
    checked = check_options(section, options, schema.targets(table, kind), problems)
    return {} if len(problems) > before else {**checked, "kind": kind}


def _unknown_kind(what: str, kind: Any, choices: Sequence[str]) -> str:
    near = nearest(str(kind), choices) if kind else None
    meant = f"; did you mean {near!r}?" if near else ""
    return f"{f'unknown {what} {kind!r}' if kind else 'must be set'}{meant} (choices: {', '.join(choices)})"


def _as_written(value: Any) -> Any:
    """YAML has lists only; a tuple-typed option takes them (pydantic's strict mode would not)."""
    return tuple(_as_written(item) for item in value) if isinstance(value, list) else value


def _explain(section: str, item: Mapping[str, Any], fields: Mapping[str, Any]) -> str:
    name, *rest = (str(part) for part in item["loc"])
    name = name.removeprefix("o_")
    key = ".".join([section, name, *(part for part in rest if part.isdigit())])
    if item["type"] == "extra_forbidden":
        from components import schema

        near = "data.coding" if key == "data.encoding" and "coding" in fields else schema.elsewhere(section, name)
        if not near and section == "data" and (readers := schema.readers_with(name)):
            which = ", ".join(readers[:3])
            return f"{key}: a setting of other readers ({which}); --set {key}=null takes it away"
        near = near or nearest(name, fields)
        meant = f"did you mean {near!r}?" if near else f"settings: {', '.join(fields) or 'none'}"
        return f"{key}: unknown setting; {meant} (--set {key}=null takes it away)"
    if item["type"] == "missing":
        return f"{key}: must be set"
    message = item["msg"][0].lower() + item["msg"][1:]
    near = nearest(item["input"], _choices(fields.get(name))) if isinstance(item["input"], str) else None
    meant = f"; did you mean {near!r}?" if near else ""
    return f"{key}: {message}, not {item['input']!r}{meant}"


def _choices(option: Any) -> list[str]:
    return [c for c in getattr(option[0], "__args__", ()) if isinstance(c, str)] if option else []


def _resolve(values: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    from components import schema

    known = {"seed", "accept", *SECTIONS}
    for key in values:
        if key not in known:
            near = nearest(str(key), known)
            problems.append(
                f"{key}: unknown section; {f'did you mean {near!r}?' if near else f'sections: {sorted(known)}'}"
            )
    sections = {}
    for section in SECTIONS:
        given = values.get(section) or {}
        if not isinstance(given, Mapping):
            problems.append(f"{section}: must be a mapping of settings, not {given!r}")
            given = {}
        sections[section] = dict(given)
    for section in ("encoding", "task"):
        sections[section] = check_kind(section, section, sections[section], problems)
    sections["model"] = schema.check_model(sections["model"], sections["task"], problems)
    sections["data"] = schema.check_data(sections["data"], problems)
    idle = schema.check_windows(sections, sections["task"])
    for section in ("training", "evaluation"):
        sections[section] = check_options(section, sections[section], schema.targets(section), problems)
    if sections["task"]:
        targets = schema.generation_targets(sections["task"])
        sections["generation"] = check_options("generation", sections["generation"], targets, problems)
    problems += schema.check_together(sections)
    problems += idle
    seed = values.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        problems.append(f"seed: must be a whole number from 0 to {2**32 - 1}, not {seed!r}")
    accept = values.get("accept") or {}
    if not isinstance(accept, Mapping) or not all(isinstance(v, str) for v in accept.values()):
        problems.append(f'accept: must map a metric to a bound such as "< 1.6", not {accept!r}')
        accept = {}
    problems += schema.check_accept(accept)
    return {"seed": seed, **sections, "accept": dict(accept)}
