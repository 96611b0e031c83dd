"""Moved or copied state folders: the addresses of artifacts in the sqlite store are updated.

MLflow stores absolute addresses. Without an update, new runs would write their artifacts to the old folder.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from components.tracking.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

# columns with addresses below an experiment's
BELOW = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def follow(settings: Settings) -> None:
    """Make the store's addresses begin with the current artifact root."""
    if "://" in settings.artifacts:
        return
    from sqlalchemy import create_engine, text

    today = Path(settings.artifacts)
    engine = create_engine(settings.tracking_uri)
    with engine.begin() as connection:
        rows = connection.execute(text("SELECT experiment_id, name, artifact_location FROM experiments"))
        for id, name, location in rows.fetchall():
            old = local_folder(location)
            ours = old is not None and old.parent.name == today.name and old.name in (folder_name(name), str(id))
            if ours and old.parent != today:
                _move(connection, old, today / old.name)
                new = {"id": id, "new": (today / old.name).as_uri()}
                connection.execute(
                    text("UPDATE experiments SET artifact_location = :new WHERE experiment_id = :id"), new
                )
    engine.dispose()


def _move(connection: Connection, old: Path, new: Path) -> None:
    """Rewrite the addresses below `old` that exist below `new`; all of them if `old` no longer exists."""
    from sqlalchemy import text

    gone = not old.exists()
    for table, column in BELOW:
        for (address,) in connection.execute(text(f"SELECT DISTINCT {column} FROM {table}")).fetchall():
            folder = local_folder(address)
            if folder is None or not folder.is_relative_to(old):
                continue
            moved = new / folder.relative_to(old)
            if gone or moved.exists():
                values = {"old": address, "new": moved.as_uri()}
                connection.execute(text(f"UPDATE {table} SET {column} = :new WHERE {column} = :old"), values)


def local_folder(address: str | None) -> Path | None:
    """The local folder of an artifact address, as MLflow parses it; None if it isn't local."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    if not address or urlsplit(address).scheme not in ("", "file"):
        return None
    return Path(local_file_uri_to_path(address))


def folder_name(experiment: str) -> str:
    """The folder of an experiment's artifacts."""
    return re.sub(r"[^\w.-]+", "-", experiment).strip(".") or "experiment"
