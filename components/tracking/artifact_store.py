"""Checks of the artifact store before training: the package is installed, and files can be written."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
import threading
from pathlib import Path
from urllib.parse import urlsplit

from components.errors import UserError
from components.redaction import shown_address
from components.tracking.reach import REACH_SECONDS, within
from components.tracking.spool import summary

ARTIFACTS = {  # scheme of an artifact URI → the module that MLflow needs for it
    "s3": "boto3",
    "gs": "google.cloud.storage",
    "wasbs": "azure.storage.blob",
    "abfss": "azure.storage.filedatalake",
    "sftp": "pysftp",
    "hdfs": "pyarrow",
}
EXTRAS = {"boto3": "'reprise[s3]'", "psycopg2": "'reprise[postgres]'"}  # modules that one of Reprise's extras installs
FROM_OUTSIDE = ("botocore", "boto3", "s3transfer", "requests", "urllib3")  # modules whose errors come from a store
PROBE = "reprise-was-here.txt"
KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and MLFLOW_S3_ENDPOINT_URL for an S3 server of your own"
WAYS_OUT = {  # words in an error → hint
    "NoSuchBucket": "create the bucket, or set another one: tracking.artifacts in mlflow.yaml",
    "Could not connect to the endpoint": f"is it running? {KEYS}",
    "Unable to locate credentials": KEYS,
    "InvalidAccessKeyId": KEYS,
    "SignatureDoesNotMatch": KEYS,
    "AccessDenied": f"give this key permission to read, write and delete there; {KEYS}",
}

_checked: set[tuple[str, str]] = set()
_checking = threading.Lock()


def check_artifacts(address: str, tracking_uri: str) -> None:
    """Write a test file to the artifact store, once for each address that isn't a local folder.

    Raises:
        UserError: the package for it isn't installed, or writing fails; says why.
    """
    scheme = urlsplit(address).scheme
    if scheme in ("", "file"):
        return
    check_package(address)
    with _checking:
        if (address, tracking_uri) in _checked:
            return
        try:
            within(REACH_SECONDS, lambda: _write(address, tracking_uri))
        except Exception as error:
            what = f"artifacts can't be stored: {summary(error)}"
            raise UserError(what, where=shown_address(address), hint=way_out(error)) from None
        _checked.add((address, tracking_uri))


def way_out(error: BaseException) -> str | None:
    """A hint for an error of an artifact store, None for an unknown one."""
    return next((way for words, way in WAYS_OUT.items() if words in str(error)), None)


def check_package(address: str) -> None:
    """Raise UserError if the package for artifacts at this address isn't installed."""
    scheme = urlsplit(address).scheme
    module = ARTIFACTS.get(scheme)
    try:
        found = module is None or importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package
        found = False
    if not found:
        package = module.replace(".", "-")
        what = f"artifacts at {scheme}:// need a package that isn't installed: {package}"
        raise UserError(what, where=shown_address(address), hint=f"pip install {EXTRAS.get(module, package)}")


def _write(address: str, tracking_uri: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    place = get_artifact_repository(address, tracking_uri=tracking_uri)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PROBE
        path.write_text("Reprise can keep artifacts here.\n", encoding="utf-8")
        place.log_artifact(str(path))
    with contextlib.suppress(Exception):  # some servers don't allow deletion
        place.delete_artifacts(PROBE)
