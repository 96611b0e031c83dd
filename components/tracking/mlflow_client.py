"""MLflow clients: one for each process and store, without telemetry, with errors translated for the user."""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import shlex
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from components.errors import UserError
from components.paths import writable_folder
from components.tracking.artifact_store import EXTRAS, FROM_OUTSIDE, check_artifacts, way_out
from components.tracking.moved import follow
from components.tracking.reach import REACH_SECONDS, within
from components.tracking.settings import Settings
from components.tracking.spool import summary

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # the spool retries, so MLflow needn't retry a request for four minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # otherwise the UI starts eight processes of some 240 MB each, for evaluating chat programs
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
QUIET = {
    "alembic": "WARNING",
    "mlflow.store": "WARNING",
    "mlflow.pyfunc": "WARNING",
    "urllib3.connectionpool": "ERROR",
}
# errors that a retry can't fix
HOPELESS = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE", "BAD_REQUEST")

DRIVERS = {"MySQLdb": "mysqlclient", **EXTRAS}  # module → package, where the names differ
WRITES = "INSERT INTO runs SELECT * FROM runs WHERE 1 = 0"  # needs the permission to write, but writes nothing

_clients: dict[str, MlflowClient] = {}
_clients_lock = threading.Lock()


def open_client(settings: Settings) -> MlflowClient:
    """The client of the configured store, one for each process and store; creates a missing sqlite store.

    Raises:
        UserError: the store can't be opened.
    """
    with _clients_lock:
        if settings.tracking_uri not in _clients:
            for name, value in ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            for name, level in QUIET.items():
                logging.getLogger(name).setLevel(level)
            with explained(settings):
                _clients[settings.tracking_uri] = _connect(settings)
        return _clients[settings.tracking_uri]


def _connect(settings: Settings) -> MlflowClient:
    """The client. One process at a time connects to a database, as concurrent first connections corrupt a new one;
    building a client connects too."""
    from mlflow import MlflowClient

    within(REACH_SECONDS, lambda: _reach(settings))
    if settings.served:
        return MlflowClient(settings.tracking_uri, registry_uri=settings.tracking_uri)
    writable_folder(settings.home, where="REPRISE_HOME", hint="set it to a folder that you can write to")
    with FileLock(settings.home / "store.lock"):
        if settings.tracking_uri.startswith("sqlite"):
            _make(settings)
        client = MlflowClient(settings.tracking_uri, registry_uri=settings.tracking_uri)
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)  # the registry opens the database separately
        if settings.tracking_uri.startswith("sqlite"):
            follow(settings)
        return client


def _make(settings: Settings) -> None:
    """Create the sqlite database if there is none."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    scheme, _, rest = settings.tracking_uri.partition(":///")
    path = Path(rest.partition("?")[0])
    if not path.exists():
        writable_folder(path.parent, where="the tracking store")
        # created under another name and renamed, so that an interruption can't leave half a schema
        fresh = path.with_name(f"{path.name}.new")
        fresh.unlink(missing_ok=True)
        SqlAlchemyStore(f"{scheme}:///{fresh}", settings.artifact_uri).engine.dispose()
        fresh.rename(path)


def _reach(settings: Settings) -> None:
    """Connect once, without MLflow's retries, which go on for hours for a database."""
    from mlflow import MlflowClient
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    if settings.served:
        patience = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(int(REACH_SECONDS))}
        before = {name: os.environ[name] for name in patience}
        os.environ |= patience
        try:
            MlflowClient(settings.tracking_uri).search_experiments(max_results=1)
        finally:
            os.environ |= before
    elif not settings.tracking_uri.startswith("sqlite"):
        create_engine(settings.tracking_uri, poolclass=NullPool).connect().close()


def check_store(settings: Settings) -> str:
    """Connect, and check the permission to write and the artifact store. Returns the store's address without secrets.

    Raises:
        UserError: a check fails; says which.
    """
    from sqlalchemy import create_engine, text

    open_client(settings)
    if not settings.served:
        check_artifacts(settings.artifact_uri, settings.tracking_uri)
        with explained(settings), create_engine(settings.tracking_uri).begin() as connection:
            connection.execute(text(WRITES))
    return settings.store


class StoreUser:
    """Reads or writes the store that `settings` names."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    def client(self) -> MlflowClient:
        return open_client(self.settings)


@contextlib.contextmanager
def explained(settings: Settings) -> Iterator[None]:
    """Turn the store's errors into UserError."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    hint = "its address is set by tracking.uri in mlflow.yaml or by MLFLOW_TRACKING_URI"
    try:
        yield
    except Exception as error:
        outside = type(error).__module__.partition(".")[0] in FROM_OUTSIDE
        if not outside and not isinstance(error, MlflowException | SQLAlchemyError | ImportError | TimeoutError):
            raise
        code = getattr(error, "error_code", "")
        if "out-of-date database schema" in str(error):
            what, hint = "was created by an older MLflow", f"back it up, then run {command(settings, 'db upgrade')}"
        elif isinstance(error, ImportError):
            what = f"needs a package that isn't installed: {error.name}"
            hint = f"pip install {DRIVERS.get(str(error.name), error.name)}"
        elif code in HOPELESS:
            what, hint = f"MLflow refuses the request: {summary(error)}", ""
        else:
            what, hint = f"MLflow can't be used: {summary(error)}", way_out(error) or f"is it running? {hint}"
        raise UserError(what, where=settings.store, hint=hint or None) from None


def deleted(settings: Settings, experiment: Experiment) -> UserError:
    """The error for an experiment that was deleted in the store."""
    back = command(settings, f"experiments restore -x {experiment.experiment_id}")
    return UserError(f"experiment {experiment.name!r} is deleted in the store", hint=f"restore it: {back}")


def command(settings: Settings, arguments: str) -> str:
    """An `mlflow` command on this store, to be run in the same shell. Hides a password in the address."""
    program, given = shlex.quote(str(Path(sys.executable).with_name("mlflow"))), shlex.quote(settings.store)
    if arguments.startswith("db "):
        return f"{program} {arguments} {given}"
    from_here = bool(os.environ.get("MLFLOW_TRACKING_URI"))
    return f"{'' if from_here else f'MLFLOW_TRACKING_URI={given} '}{program} {arguments}"


def user_name() -> str:
    """The user of this process."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


def ui_command(settings: Settings) -> tuple[list[str], dict[str, str]]:
    """The arguments of `python -m mlflow` that serve the UI of a store on this machine, and additional environment
    variables. These hold the addresses, as arguments, which may include a password, are visible to all users."""
    open_client(settings)  # creates a missing store, and sets the environment variables that the UI inherits
    arguments = ["server", "--host", settings.ui_host, "--port", str(settings.ui_port), "--workers", "1"]
    addresses = {
        "MLFLOW_BACKEND_STORE_URI": settings.tracking_uri,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": settings.artifact_uri,
    }
    return arguments, addresses
