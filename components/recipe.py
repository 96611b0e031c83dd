"""Recipes: YAML → frozen Recipe. All problems of a recipe are reported at once, with their dotted keys and how to fix
them.

A section may have the settings of the class that it names (components/options.py).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from components import schema
from components.errors import UserError, nearest
from components.options import check_kind, check_options, generation_targets, options_of, targets
from components.provenance import digest_json
from components.yaml_text import as_yaml, parse_yaml

SECTIONS = ("data", "encoding", "task", "model", "training", "evaluation", "generation")
MAX_BYTES = 1 << 20
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Recipe:
    """The settings of a run, with all defaults filled in.

    `digest` covers everything that affects the result, so not the name or the file.
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
        """Plain data in the order of the YAML file; the inverse of `Recipe.from_dict`."""
        sections = {name: copy.deepcopy(dict(getattr(self, name))) for name in SECTIONS}
        return {"seed": self.seed, **sections, "accept": dict(self.accept)}

    def as_yaml(self) -> str:
        """The recipe as YAML, with all defaults."""
        return as_yaml(self.as_dict())

    @property
    def digest(self) -> str:
        return digest_json(self.as_dict())

    @classmethod
    def from_dict(cls, name: str, values: Mapping[str, Any], *, where: str | None = None) -> Recipe:
        """Check `values` and fill in defaults.

        Raises:
            UserError: with all problems, one a line.
        """
        problems: list[str] = []
        resolved = _resolve(values, problems)
        if not NAME.fullmatch(name):
            problems.append(f"the recipe's name {name!r} names the model too: use only a–z, 0–9, - and _")
        if problems:
            lines = "\n".join(f"  {line}" for line in problems)
            count = f"{len(problems)} problem{'s' * (len(problems) > 1)} in the recipe"
            raise UserError(
                f"{count}\n{lines}", where=where or name, hint="`reprise show chorales` prints a complete recipe"
            )
        return cls(name=name, **resolved)


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, with `--set` overrides ("a.b=c") applied.

    Raises:
        UserError: the file can't be read, isn't YAML, or has wrong settings (all are listed).
    """
    values = load_yaml(path)
    for override in overrides:  # of two for one setting the last applies
        apply_override(values, override)
    return Recipe.from_dict(path.stem, values, where=str(path))


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping from a file, safely and with a size limit."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"is larger than {MAX_BYTES} bytes, too large for a recipe", where=str(path))
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(error.strerror or str(error), where=str(path), hint="`reprise recipes` lists recipes") from None
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 text (byte {error.start})", where=str(path)) from None
    values = parse_yaml(text, where=str(path))
    if not isinstance(values, dict):
        raise UserError(
            "a recipe must be a mapping of sections", where=str(path), hint=f"sections: {', '.join(SECTIONS)}"
        )
    return values


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set "a.b=c" in nested `values`; c is parsed as YAML. null removes the setting, so that its default applies,
    unless null is a value of the setting (training.clip_norm)."""
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
    """Whether null is a value of the setting other than its default, as for training.clip_norm."""
    section, _, name = key.partition(".")
    for target in targets(section) if section in ("training", "evaluation") else ():
        annotation, default = options_of(target).get(name, (None, None))
        if default is not None and type(None) in get_args(annotation):
            return True
    return False


def _resolve(values: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    known = {"seed", "accept", *SECTIONS}
    for key in values:
        if key not in known:
            near = nearest(str(key), known)
            problems.append(
                f"{key}: unknown section; {f'did you mean {near!r}?' if near else f'sections: {sorted(known)}'}"
            )
    sections = {}
    for section in SECTIONS:
        given = values.get(section)
        if not isinstance(given, Mapping | None):
            problems.append(f"{section}: must be a mapping of settings, not {given!r}")
            given = {}
        sections[section] = dict(given or {})
    for section in ("encoding", "task"):
        sections[section] = check_kind(section, section, sections[section], problems)
    sections["model"] = schema.check_model(sections["model"], sections["task"], problems)
    sections["data"] = schema.check_data(sections["data"], problems)
    idle = schema.check_windows(sections, sections["task"])
    for section in ("training", "evaluation"):
        sections[section] = check_options(section, sections[section], targets(section), problems)
    if sections["task"]:
        settings = generation_targets(sections["task"])
        sections["generation"] = check_options("generation", sections["generation"], settings, problems)
    problems += schema.check_together(sections)
    problems += idle
    seed = values.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        problems.append(f"seed: must be a whole number from 0 to {2**32 - 1}, not {seed!r}")
    accept = {} if values.get("accept") is None else values["accept"]
    if not isinstance(accept, Mapping) or not all(isinstance(v, str) for v in accept.values()):
        problems.append(f'accept: must map a metric to a bound such as "< 1.6", not {accept!r}')
        accept = {}
    problems += schema.check_accept(accept)
    return {"seed": seed, **sections, "accept": dict(accept)}
