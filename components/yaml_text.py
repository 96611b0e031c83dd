"""Safe YAML: plain values, no aliases, no duplicate keys."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from components.errors import UserError


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases (no exponential expansion), without duplicate keys, and with 2e-3 as a number."""

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
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is used twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: Any) -> int:
        return self._as_written(node, super().construct_yaml_int(node))

    def construct_yaml_float(self, node: Any) -> float:
        return self._as_written(node, super().construct_yaml_float(node))

    def _as_written(self, node: Any, value: Any) -> Any:
        """Refuse numbers that YAML 1.1 reads otherwise than people: 020 as 16, and 1:30 as 90."""
        if not OTHER_BASE.fullmatch(node.value):
            return value
        what = (
            f"{node.value} would be read as {value:g}: write the number without leading zeros and colons, or as a text"
        )
        raise yaml.constructor.ConstructorError(None, None, f"{what}: '{node.value}'", node.start_mark)


OTHER_BASE = re.compile(r"[-+]?(0[\d_]+|\d[\d_]*(:[0-5]?\d)+(\.[\d_]*)?)")  # octal, or in sixties
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d[\d_]*)(?:\.[\d_]*)?(?:[eE][-+]?\d+)$|[-+]?\.[\d_]+(?:[eE][-+]?\d+)?$"),
    list("-+0123456789."),
)


def parse_yaml(text: str, *, where: str) -> Any:
    """Parse a YAML text."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UserError(f"{place}{getattr(error, 'problem', None) or error}", where=where) from None


def as_yaml(values: Any) -> str:
    """JSON-ready data as YAML, in their order."""
    return str(yaml.safe_dump(json.loads(json.dumps(values)), sort_keys=False, allow_unicode=True))
