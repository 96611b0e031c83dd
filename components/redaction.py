"""Removal of passwords, keys and tokens from addresses and messages."""

from __future__ import annotations

import contextlib
import os
import re
from urllib.parse import unquote, urlsplit

HIDDEN = "***"
ADDRESSES = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "PREFECT_API_URL",
    "PREFECT_UI_URL",
    "PREFECT_API_DATABASE_CONNECTION_URL",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "REPRISE_MIRROR",
    "http_proxy",
    "https_proxy",
    "all_proxy",
)
VALUES = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|API_KEY|AUTH_STRING|CONNECTION_STRING", re.IGNORECASE)
QUERY = re.compile(r"pass|pwd|secret|token|key|sig|cred|auth", re.IGNORECASE)
SHORTEST, SHORTEST_VALUE = 3, 8  # characters; shorter values (true, 1) would be redacted all over a message

_known: set[str] = set()


def shown_address(address: str) -> str:
    """The address without user, password and query.

    Everything before the last "@" counts as credentials: a password may contain any character, also unquoted.
    """
    scheme, mark, rest = address.partition("://")
    if not mark:
        return address
    place, *query = re.split("[?#]", rest, maxsplit=1)
    if "@" not in place and "@" in "".join(query):  # a password with a "?", or a query with an "@"
        return f"{scheme}://{HIDDEN}"
    credentials, at, place = place.rpartition("@")
    return f"{scheme}://{HIDDEN + at if credentials else ''}{place}{f'?{HIDDEN}' if query else ''}"


def remember(address: str) -> None:
    """Redact this address's secrets in all messages from now on."""
    _known.update(_secrets(address))


def without_secrets(text: str) -> str:
    """The text without passwords of remembered addresses and secrets of the environment."""
    secrets = set(_known)
    for name, value in os.environ.items():
        if name in ADDRESSES or name.lower() in ADDRESSES:
            secrets |= _secrets(value)
        elif VALUES.search(name) and len(value) >= SHORTEST_VALUE:
            secrets.add(value)
    for secret in sorted((each for each in secrets if len(each) >= SHORTEST), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _secrets(address: str) -> set[str]:
    """The credentials in an address, as written and unquoted; a user name alone isn't one."""
    _, mark, rest = address.partition("://")
    if not mark:
        return set()
    before, _, after = rest.rpartition("@")
    found = {before.partition(":")[2]}
    for each in after.partition("#")[0].partition("?")[2].split("&"):
        name, _, value = each.partition("=")
        if QUERY.search(name):
            found.add(value)
    with contextlib.suppress(ValueError):
        found.add(urlsplit(address).password or "")
    return {form for each in found for form in (each, unquote(each)) if form}
