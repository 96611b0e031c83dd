"""Downloads of a card's files: from the cache, a mirror folder or the network, each verified by its sha256."""

from __future__ import annotations

import itertools
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from filelock import FileLock

from components.datasets.cards import Card, CardFile
from components.errors import UserError
from components.paths import user_path
from components.provenance import digest_file
from components.redaction import shown_address
from components.whole_files import written_whole

if TYPE_CHECKING:
    import requests

MIRROR = "REPRISE_MIRROR"
BLOCK = 1 << 16
ATTEMPTS = 3  # each resumes where the last one stopped
TIMEOUT_SECONDS = (10.0, 30.0)  # connect, read


class Truncated(Exception):
    """The connection closed before the file was complete."""


def fetch(card: Card, cache_dir: Path, mirror: Path | None, progress: bool = False) -> list[Path]:
    """The card's files, in its order, verified by sha256. `progress`: show a progress bar on stderr while downloading.

    Looks in the cache, then for `<mirror>/<card>/<file>` (- or _ in the card's name, and one folder deeper) and
    `<mirror>/<file>`, which are used in place; then downloads.

    Raises:
        UserError: a file can't be found or downloaded; the message has its address and the other ways to provide it.
    """
    folder = cache_dir / "downloads" / card.name
    paths = [_fetch(card, file, folder, mirror, progress) for file in card.files]
    return [
        _beginning(path, file.lines, folder / f"first-{file.lines}-lines") if file.lines else path
        for path, file in zip(paths, card.files, strict=True)
    ]


def mirror_folder(root: Path) -> Path | None:
    """The folder with copies of the files: $REPRISE_MIRROR, else the path in `<root>/data/mirror`.

    Raises:
        UserError: the folder doesn't exist.
    """
    pointer = root / "data" / "mirror"
    where, named = f"${MIRROR}", os.environ.get(MIRROR, "").strip()
    if not named and pointer.is_file():
        where = str(pointer)
        with pointer.open(encoding="utf-8", errors="replace") as file:
            named = file.readline(4096).strip()
    if not named:
        return None
    hint = "set it to the mirror's folder, or unset it"
    if "://" in named:
        raise UserError(f"{shown_address(named)} is an address, not a folder", where=where, hint=hint)
    folder = user_path(named, where=where, base=root)
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder}", where=where, hint=hint)
    return folder


def _fetch(card: Card, file: CardFile, folder: Path, mirror: Path | None, progress: bool) -> Path:
    target = folder / file.name
    if _is(target, file):
        return target
    problems = []
    folders = [mirror / card.name, mirror / card.name.replace("-", "_"), mirror] if mirror else []
    below = [found for folder in folders[:2] for found in sorted(folder.glob(f"*/{file.name}"))]
    for candidate in [*(folder / file.name for folder in folders), *below]:
        if _is(candidate, file):
            return candidate
        if candidate.is_file():
            problems.append(f"{candidate} isn't that file: its sha256 or size differs from the card's")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{file.name}.lock"):
        if _is(target, file):  # another process downloaded it meanwhile
            return target
        target.unlink(missing_ok=True)
        problem = _download(file, target, progress)
    if problem is None:
        return target
    raise UserError(
        "; ".join([f"{file.name} can't be downloaded from {shown_address(file.url)} ({problem})", *problems]),
        where=f"dataset {card.name}",
        hint=f"put the file into a folder and write the folder's path into ${MIRROR} or data/mirror, "
        f"or read your own file with data.path",
    )


def _beginning(path: Path, count: int, folder: Path) -> Path:
    """A copy of a file's first lines, in the cache."""
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("rb") as source, written_whole(folder / path.name) as temporary:
        lines = list(itertools.islice(source, count))
        if len(lines) < count:
            what = f"has {len(lines):,} lines, but the data set's card says {count:,}"
            raise UserError(what, where=str(path), hint="correct `lines` in the card")
        temporary.write_bytes(b"".join(lines))
    return folder / path.name


def _is(path: Path, file: CardFile) -> bool:
    return path.is_file() and path.stat().st_size == file.bytes and digest_file(path) == file.sha256


def _download(file: CardFile, target: Path, progress: bool) -> str | None:
    """Download through pooch, which verifies the file and moves it into place. Returns the error, or None."""
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.WARNING)
    part = target.with_name(f"{target.name}.part")

    def downloader(url: str, output_file: str, pooch: object) -> None:
        for attempt in range(ATTEMPTS):
            try:
                _resume(url, part, file.bytes, progress)
                break
            except (Truncated, requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(0.2 * 4**attempt)
        os.replace(part, output_file)

    try:
        pooch.retrieve(
            file.url, known_hash=f"sha256:{file.sha256}", fname=target.name, path=target.parent, downloader=downloader
        )
    except requests.ConnectionError:
        return f"no connection to {urlsplit(file.url).hostname}"
    except (requests.RequestException, Truncated, OSError) as error:
        return str(error) or type(error).__name__
    except ValueError:  # raised by pooch on a wrong hash
        return "its sha256 differs from the card's: the file was changed at its source"
    return None


def _resume(url: str, part: Path, size: int, progress: bool) -> None:
    """Download the rest of `part`, up to `size` bytes.

    Raises:
        Truncated: the response was too short. requests.RequestException: errors of requests, HTTP errors included.
    """
    import requests

    have = part.stat().st_size if part.exists() else 0
    if have > size:
        part.unlink()
        have = 0
    if have == size:
        return
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink(missing_ok=True)  # the file on the server has changed
            raise Truncated("the server can't send the missing part")
        response.raise_for_status()
        goes_on = response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        _save(response, part, have if goes_on else 0, size, progress)


def _save(response: requests.Response, part: Path, have: int, size: int, progress: bool) -> None:
    import requests
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    with (
        part.open("ab" if have else "wb") as file,
        Progress(*columns, console=Console(stderr=True), disable=not progress) as bar,
    ):
        # Otherwise a broken connection raises before the last block is returned, and the download couldn't resume
        # there.
        response.raw.enforce_content_length = False
        task = bar.add_task(part.stem, total=size, completed=have)
        for block in response.iter_content(BLOCK):
            have += len(block)
            if have > size:
                part.unlink()
                raise requests.RequestException(f"larger than the {size:,} bytes in the card")
            file.write(block)
            bar.advance(task, len(block))
    if have < size:
        raise Truncated(f"only {have:,} of {size:,} bytes were received")
