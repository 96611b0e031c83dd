"""The way into MLflow: one client a process and store, quiet, without telemetry, its errors put in words."""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from components.errors import UserError
from components.tracking.settings import Settings
from components.tracking.spool import summary

if TYPE_CHECKING:
    from mlflow import MlflowClient

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # the spool tries again, so a request needn't go on for four minutes by itself
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # for evaluating chat programs the UI would start eight more processes of some 240 MB each
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
QUIET = {
    "alembic": "WARNING",
    "mlflow.store": "WARNING",
    "mlflow.pyfunc": "WARNING",
    "urllib3.connectionpool": "ERROR",
}
# errors that stay errors however often one tries
HOPELESS = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE", "BAD_REQUEST")

_clients: dict[str, MlflowClient] = {}
_clients_lock = threading.Lock()


def open_client(settings: Settings) -> MlflowClient:
    """The client of the configured store, one for each process and store; creates an sqlite store that isn't there.

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
    """The client. First contact with a database is for one process at a time: many at once break a fresh one for good
    (and building a client is contact)."""
    from mlflow import MlflowClient

    if settings.served:
        return MlflowClient(settings.tracking_uri, registry_uri=settings.tracking_uri)
    settings.home.mkdir(parents=True, exist_ok=True)
    with FileLock(settings.home / "store.lock"):
        scheme, _, rest = settings.tracking_uri.partition(":///")
        path = Path(rest.partition("?")[0])
        if scheme.startswith("sqlite") and not path.exists():
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

            path.parent.mkdir(parents=True, exist_ok=True)
            # made beside and moved into place: an interruption of these seconds must not leave half a schema
            fresh = path.with_name(f"{path.name}.new")
            fresh.unlink(missing_ok=True)
            SqlAlchemyStore(f"{scheme}:///{fresh}", settings.artifacts).engine.dispose()
            fresh.rename(path)
        client = MlflowClient(settings.tracking_uri, registry_uri=settings.tracking_uri)
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)  # the registry opens the database on its own
        return client


@contextlib.contextmanager
def explained(settings: Settings) -> Iterator[None]:
    """Turns the store's errors into ones for the user."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    where = settings.ui_url if settings.served else f"{settings.tracking_uri.partition(':')[0]} store"
    hint = "its address is tracking.uri in mlflow.yaml, or MLFLOW_TRACKING_URI"
    try:
        yield
    except (MlflowException, SQLAlchemyError, ImportError) as error:
        code = getattr(error, "error_code", "")
        if "out-of-date database schema" in str(error):
            what, hint = "was made by an older MLflow", "make a copy of it, then: mlflow db upgrade ADDRESS"
        elif isinstance(error, ImportError):
            what, hint = f"needs a package that isn't installed: {error.name}", f"pip install {error.name}"
        elif code in HOPELESS:
            what, hint = f"refuses: {summary(error)}", ""
        else:
            what, hint = f"doesn't work: {summary(error)}", f"is it running? {hint}"
        raise UserError(what, where=where, hint=hint or None) from error


def user_name() -> str:
    """Who runs this process."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


def ui_command(settings: Settings) -> list[str]:
    """The arguments of `python -m mlflow` that serve the UI of a store on this machine."""
    open_client(settings)  # makes the store where there is none, and sets the environment that the UI inherits
    return [
        "server",
        *("--backend-store-uri", settings.tracking_uri),
        *("--default-artifact-root", settings.artifacts),
        *("--host", settings.ui_host, "--port", str(settings.ui_port)),
        *("--workers", "1"),
    ]
