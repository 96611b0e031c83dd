"""The settings in mlflow.yaml: where runs and models are stored and how they are named."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from components.errors import SENTENCE, UserError, meant
from components.paths import user_path
from components.redaction import HIDDEN, remember, shown_address
from components.yaml_text import parse_yaml

FILE = "mlflow.yaml"
MAX_FILE_BYTES = 64 * 1024
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SERVERS = ("http", "https")


def _not_a_version(alias: str) -> str:
    if re.fullmatch(r"latest|[vV]?\d+", alias):
        raise ValueError("can't be an alias, since it looks like a version")
    return alias


Alias = Annotated[str, Field(pattern=r"^[\w-]{1,64}$"), AfterValidator(_not_a_version)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Tracking(_Section):
    uri: str = "sqlite:///mlflow.db"
    artifacts: str = "artifacts"


class _Experiments(_Section):
    prefix: Annotated[str, Field(pattern=r"^[\w. /-]{0,64}$")] = ""
    tags: dict[str, str] = {"project": "reprise"}


class _Registry(_Section):
    champion: Alias = "champion"
    challenger: Alias = "challenger"


class _Ui(_Section):
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 5000


class _SystemMetrics(_Section):
    every_seconds: Annotated[float, Field(ge=0, le=3600)] = 10


class Travel(_Section):
    """Whether a run's latest state is uploaded to its artifacts, so that another machine can resume it."""

    checkpoints: Literal["auto", "always", "never"] = "auto"  # auto: unless artifacts are in a local folder
    every_seconds: Annotated[int, Field(ge=1, le=3600)] = 60  # minimum time between uploads
    data_mb: Annotated[float, Field(ge=0, le=100_000)] = 64  # ingested data up to this size are uploaded too


class _File(_Section):
    home: str = "runs"
    tracking: _Tracking = _Tracking()
    experiments: _Experiments = _Experiments()
    registry: _Registry = _Registry()
    ui: _Ui = _Ui()
    system_metrics: _SystemMetrics = _SystemMetrics()
    travel: Travel = Travel()


@dataclass(frozen=True)
class Settings:
    """mlflow.yaml with every address resolved. `home` is the state folder of this machine, an absolute path."""

    root: Path
    home: Path
    tracking_uri: str
    artifacts: str  # an absolute folder or an address; not used with a server, which chooses the location
    experiment_prefix: str
    tags: dict[str, str]  # on every run
    aliases: dict[Literal["champion", "challenger"], str]  # role → alias in the registry
    ui_host: str
    ui_port: int
    system_metrics_seconds: float  # 0 = off
    travel: Travel

    @property
    def served(self) -> bool:
        """Whether the store is an MLflow server, not a database that this process opens."""
        return self.tracking_uri.startswith(SERVERS)

    @property
    def ui_url(self) -> str:
        """The UI's address: the server's, or that of `ui` in mlflow.yaml."""
        # without credentials, as links are printed
        uri = shown_address(self.tracking_uri).replace(f"{HIDDEN}@", "").partition("?")[0]
        return uri.rstrip("/") if self.served else f"http://{self.ui_host}:{self.ui_port}"

    @property
    def store(self) -> str:
        """The store's address without secrets."""
        return self.ui_url if self.served else shown_address(self.tracking_uri)

    @property
    def artifact_uri(self) -> str:
        """The root of new runs' artifacts as a URI: MLflow unquotes its argument even if it is a path."""
        return self.artifacts if "://" in self.artifacts else Path(self.artifacts).as_uri()

    @property
    def shared(self) -> bool:
        """Whether machines share the state of runs through the store."""
        chosen = self.travel.checkpoints
        return chosen == "always" or (chosen == "auto" and (self.served or "://" in self.artifacts))

    def travels(self, artifact_uri: str) -> bool:
        """Whether the state of a run with artifacts at this address is uploaded to them."""
        here = urlsplit(artifact_uri).scheme in ("", "file")
        return self.shared and not (here and self.travel.checkpoints == "auto")

    @property
    def spool(self) -> Path:
        """Folder of entries that aren't sent to the store yet."""
        return self.home / "spool"

    @property
    def model_cache(self) -> Path:
        """Folder of downloaded models."""
        return self.home / "models"


def load_settings(root: Path) -> Settings:
    """Read `root`/mlflow.yaml, or use the defaults if there is no such file.

    Environment: MLFLOW_TRACKING_URI overrides `tracking.uri`, REPRISE_HOME overrides `home`. Relative paths in them
    start at the current folder, those in the file at the file's folder.

    Raises:
        UserError: the file can't be read, or has unknown keys or wrong values; lists all of them.
    """
    root = Path(root).resolve()
    file = _read(root / FILE)
    moved = os.environ.get("REPRISE_HOME")
    home = user_path(moved, where="REPRISE_HOME") if moved else user_path(file.home, where=f"{FILE}: home", base=root)
    chosen = os.environ.get("MLFLOW_TRACKING_URI")
    uri = _resolve_uri(chosen, Path.cwd(), "MLFLOW_TRACKING_URI") if chosen else None
    if file.registry.champion == file.registry.challenger:
        raise UserError("champion and challenger must be different aliases", where=f"{FILE}: registry")
    artifacts = file.tracking.artifacts
    if "://" not in artifacts:
        artifacts = str(user_path(artifacts, where=f"{FILE}: tracking.artifacts", base=home))
    elif shown_address(artifacts) != artifacts:
        # MLflow writes the address to the store with every run, where any user can read it
        raise UserError(
            f"{shown_address(artifacts)} contains a password or a query",
            where=f"{FILE}: tracking.artifacts",
            hint="remove it; for s3:// set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment",
        )
    return Settings(
        root=root,
        home=home,
        tracking_uri=uri or _resolve_uri(file.tracking.uri, home, f"{FILE}: tracking.uri"),
        artifacts=artifacts,
        experiment_prefix=file.experiments.prefix,
        tags=dict(file.experiments.tags),
        aliases={"champion": file.registry.champion, "challenger": file.registry.challenger},
        ui_host=file.ui.host,
        ui_port=file.ui.port,
        system_metrics_seconds=file.system_metrics.every_seconds,
        travel=file.travel,
    )


def _read(path: Path) -> _File:
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return _File()
    except OSError as error:
        raise UserError(f"can't be read ({error.strerror})", where=str(path)) from error
    if len(raw) > MAX_FILE_BYTES:
        raise UserError(f"is larger than {MAX_FILE_BYTES} bytes", where=str(path))
    return _parse(raw, path)


@lru_cache(maxsize=4)  # read by each step of a run
def _parse(raw: bytes, path: Path) -> _File:
    try:
        data = parse_yaml(raw.decode("utf-8"), where=str(path))
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 text (byte {error.start})", where=str(path)) from error
    try:
        return _File.model_validate({} if data is None else data)
    except ValidationError as error:
        problems = [_problem(problem) for problem in error.errors(include_url=False)]
        raise UserError("\n  ".join([f"{len(problems)} problem(s)", *problems]), where=str(path)) from error


def _problem(problem: Any) -> str:
    """One of pydantic's errors as a line: dotted key, what is wrong, the nearest name."""
    *parents, last = [str(part) for part in problem["loc"]] or ["(the whole file)"]
    key = ".".join([*parents, last])
    if problem["type"] != "extra_forbidden":
        return f"{key}: {problem['msg']}, got {repr(problem['input'])[:80]}"
    section: Any = _File
    for name in parents:
        section = section.model_fields[name].annotation
    near = meant(last, section.model_fields, SENTENCE)
    return f"{key}: unknown key.{near} Choices: {', '.join(section.model_fields)}"


def _resolve_uri(uri: str, base: Path, where: str) -> str:
    """`uri` with a relative sqlite path made absolute under `base`. Errors don't show a password in it."""
    scheme = uri.partition(":")[0].partition("+")[0].lower()
    if "://" not in uri or scheme not in (*DATABASES, *SERVERS):
        raise UserError(
            f"{scheme[:20]!r} isn't the address of a tracking store",
            where=where,
            hint="for example sqlite:///mlflow.db, http://127.0.0.1:5000 or postgresql://host/database",
        )
    remember(uri)
    if scheme != "sqlite":
        return uri
    head, _, path = uri.partition(":///")
    if not path or path.startswith(":memory:"):
        raise UserError("needs a file: an sqlite store in memory is lost when the process ends", where=where)
    name, mark, options = path.partition("?")
    file = user_path(name, where=where, base=base)
    if "?" in str(file):  # SQLAlchemy's options would begin there
        hint = "set REPRISE_HOME to a folder without a '?' in its path"
        raise UserError(f"{file}: the path of an sqlite file can't contain '?'", where=where, hint=hint)
    return f"{head}:///{file}{mark}{options}"
