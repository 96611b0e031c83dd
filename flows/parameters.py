"""Types of the flows' parameters. Prefect uses them for the forms of its UI and for validation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.recipe import NAME
from components.runs.places import recipe_names

OwnFile = Annotated[str, Field(pattern=r"\.ya?ml$", title="a YAML file of your own")]
RecipeName = Literal[tuple(recipe_names())] | OwnFile
Override = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_.]*=", title="KEY=VALUE")]
ModelName = Annotated[str, Field(pattern=rf"^{NAME.pattern}$", title="of the experiment and the model")] | None
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d{1,3})?)$", title="auto, cpu, cuda or cuda:N")]
Threads = Annotated[int, Field(ge=0, le=1024)]
Processes = Annotated[int, Field(ge=1, le=256)]
RunId = Annotated[str, Field(pattern=r"^[0-9a-zA-Z_-]{6,64}$", title="a run")]
