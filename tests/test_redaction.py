"""No password is shown: not of an address, not in a message, whatever signs it holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components import redaction
from components.redaction import shown_address, without_secrets

PASSWORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=20)


@given(PASSWORDS)
def test_an_address_is_shown_without_its_password(password: str) -> None:
    for address in (
        f"postgresql+psycopg2://ann:{password}@db.example.org:5432/runs",
        f"https://ann:{password}@tracking.example.org/base/",
        f"s3://KEY:{password}@bucket/folder",
        f"postgresql://db.example.org/runs?password={password}",
    ):
        assert password not in shown_address(address)
    shown = shown_address(f"postgresql://ann:{password}@db.example.org:5432/runs")
    assert "db.example.org:5432/runs" in shown or set(password) & set("?#")


@pytest.mark.parametrize("address", ["sqlite:////home/ann/50% off/mlflow.db", "http://127.0.0.1:5000", "/data/runs"])
def test_an_address_without_secrets_stays_as_it_is(address: str) -> None:
    assert shown_address(address) == address


def test_messages_lose_the_passwords_of_all_known_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", set())
    redaction.remember("postgresql://ann:kept%40home@db/runs")
    monkeypatch.setenv("PREFECT_API_URL", "http://bob:pr3fect@server/api")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "amazonian")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:pr0xy@gate:3128")
    told = without_secrets("kept%40home kept@home pr3fect amazonian pr0xy ann bob db")
    assert told == "*** *** *** *** *** ann bob db"
