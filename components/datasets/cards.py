"""Dataset cards: what a public data set is, where its files are, and their licence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from components.errors import UserError, unknown
from components.paths import CHECKOUT, CODE

# pyproject.toml puts the cards into an installed package
CATALOGUE = CODE / "data" / "catalogue" if CHECKOUT else Path(__file__).with_name("catalogue")
LARGEST_CARD = 1 << 20  # bytes
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")

Text = Annotated[str, Field(min_length=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class CardFile(BaseModel):
    """A file of a data set. `name` is its local name, a plain file name, whatever the address is."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    url: str = Field(pattern=r"^https?://[^\s]+$")
    bytes: int = Field(gt=0, lt=1 << 40)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    lines: int | None = Field(default=None, gt=0)  # only these first lines are read
    split: Literal["train", "val", "test"] | None = None  # if the data set defines it; for all files or for none


class Card(BaseModel):
    """A data set of the catalogue. It has `files` to download, or is in an installed `package`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(pattern=rf"^{NAME.pattern}$")
    title: Text
    reader: Text  # a name in the registry
    files: list[CardFile] = []
    package: Text | None = None
    licence: Text
    citation: Text
    split: list[Fraction] = Field(min_length=3, max_length=3)  # fractions of train, val, test
    gotchas: list[Text] = []

    @model_validator(mode="after")
    def _consistent(self) -> Card:
        if bool(self.files) == (self.package is not None):
            raise ValueError("a card must have either files or a package")
        if len({file.name for file in self.files}) != len(self.files):
            raise ValueError("two files have the same name")
        splits = {file.split for file in self.files}
        if len(splits) > 1 and (None in splits or "train" not in splits):
            raise ValueError("either all files must have a split (train among them), or none")
        if abs(sum(self.split) - 1) > 1e-6:
            raise ValueError(f"the split {self.split} doesn't add up to 1")
        return self


def card_names(folder: Path = CATALOGUE) -> list[str]:
    """The names of all cards, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml") if NAME.fullmatch(path.stem))


def load_card(name: str, folder: Path = CATALOGUE) -> Card:
    """The card called `name`.

    Raises:
        UserError: there is no such card, or its file isn't valid; all invalid fields are listed.
    """
    if name not in card_names(folder):  # also excludes `../…`: only listed names are opened
        raise unknown("dataset", name, card_names(folder), where="data.dataset")
    path = folder / f"{name}.yaml"
    hint = f"compare it with another card in {folder.name}/"
    try:
        if path.stat().st_size > LARGEST_CARD:
            raise UserError(f"is too large: more than {LARGEST_CARD:,} bytes", where=str(path), hint=hint)
        card = Card.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'card'}: {problem['msg']}" for problem in error.errors()
        )
        raise UserError(problems, where=str(path), hint=hint) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"can't be read: {error}", where=str(path), hint=hint) from error
    if card.name != name:
        raise UserError(f"the card's name is {card.name!r}", where=str(path), hint="name the file after the card")
    return card
