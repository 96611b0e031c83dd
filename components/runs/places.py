"""Paths of this installation: in the checkout that the code runs from, else in the user's data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_data_path

from components.errors import UserError, unknown
from components.paths import CHECKOUT, CODE, user_path
from components.tracking.settings import Settings, load_settings

# contains mlflow.yaml, runs/, data/cache/ and generated/; an installed package may not be writable
STATE = CODE if CHECKOUT else user_data_path("reprise", appauthor=False)
RECIPES = CODE / "flows" / "recipes"


@dataclass(frozen=True)
class Places:
    """The paths of this installation. Everything in them can be deleted, but tracked runs and models are then lost."""

    settings: Settings

    @property
    def home(self) -> Path:
        return self.settings.home

    @property
    def datasets(self) -> Path:
        """Folder of fetched and ingested data: data/cache, or in REPRISE_HOME."""
        return STATE / "data" / "cache" if self.home.is_relative_to(STATE) else self.home / "datasets"

    @property
    def generated(self) -> Path:
        return STATE / "generated" if self.home.is_relative_to(STATE) else self.home / "generated"

    @property
    def prefect(self) -> Path:
        return self.home / "prefect"

    def run_folder(self, run_id: str) -> Path:
        """Folder with a run's checkpoints and its record for resuming."""
        return self.home / "checkpoints" / run_id


def places() -> Places:
    """Read the paths from mlflow.yaml and the environment."""
    return Places(load_settings(STATE))


def recipe_names() -> list[str]:
    """The recipes that come with Reprise."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def recipe_path(name: str) -> Path:
    """The file of a recipe: a built-in one by its name, or a YAML file.

    Raises:
        UserError: there is no such recipe; the nearest name is suggested.
    """
    if name.endswith((".yaml", ".yml")):
        user_path(name, where="recipe")  # raises if it isn't a valid path
        return Path(name).expanduser()
    path = RECIPES / f"{name}.yaml"
    if name in recipe_names():
        return path
    if Path(f"{name}.yaml").is_file():
        raise UserError(f"{name!r} isn't a built-in recipe", hint=f"for your own file: {name}.yaml")
    raise unknown("recipe", name, recipe_names())
