"""The catalogue, and getting its files: cached, mirrored, resumed, and never used before their digest agrees."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
import zipfile
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml

from components.datasets import download
from components.datasets.cards import CATALOGUE, Card, card_names, load_card
from components.datasets.download import fetch, mirror_folder
from components.datasets.ingest import ingest
from components.datasets.store import Store
from components.errors import UserError
from components.paths import CODE
from components.recipe import read_recipe
from components.registry import names

CONTENT = bytes(range(256)) * 40


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT as its class attributes say; remembers the Range headers it got."""

    ranges: list[str | None] = []
    content = CONTENT
    breaks_at: list[int] = []  # bytes after which the next answers break off
    knows_ranges = True
    status: int | None = None

    def do_GET(self):
        cls = type(self)
        wanted = self.headers.get("Range")
        cls.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and cls.knows_ranges else 0
        if cls.status or start >= len(cls.content):
            self.send_response(cls.status or 416)
            self.end_headers()
            return
        body = cls.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(cls.content) - 1}/{len(cls.content)}")
        self.end_headers()
        self.wfile.write(body[: cls.breaks_at.pop(0)] if cls.breaks_at else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """(the handler class to set up, the card of the file that it serves)"""
    handler = type("Fresh", (Server,), {"ranges": [], "breaks_at": []})
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    yield handler, make_card(f"http://127.0.0.1:{served.server_port}/file.bin")
    served.shutdown()
    thread.join()
    served.server_close()


def make_card(url, content=CONTENT):
    file = {"name": "file.bin", "url": url, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return Card.model_validate(fields(files=[file]))


def fields(**changes):
    return {
        "name": "some-data",
        "title": "Some data",
        "reader": "text",
        "files": [{"name": "a.txt", "url": "https://example.org/a", "bytes": 1, "sha256": "0" * 64}],
        "licence": "CC0",
        "citation": "Nobody, 2000",
        "split": [0.8, 0.1, 0.1],
    } | changes


def test_every_card_of_the_catalogue_is_sound():
    assert {"chorales", "tinyshakespeare", "names", "dinos"} <= set(card_names())
    for name in card_names():
        card = load_card(name)
        assert card.reader in names("reader")
        assert all(file.url.startswith("https://") for file in card.files)
    assert len(card_names()) == len(list(CATALOGUE.iterdir()))


@pytest.mark.parametrize("name", ["../catalogue/names", "/etc/passwd", "names.yaml", "", ".", "Names"])
def test_a_name_that_is_no_card_opens_no_file(name):
    with pytest.raises(UserError, match="unknown dataset"):
        load_card(name)


def test_a_misspelt_card_suggests_the_right_one():
    with pytest.raises(UserError, match="Did you mean 'tinyshakespeare'"):
        load_card("tinyshakespear")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"files": []}, "either files or a package"),
        ({"package": "music21"}, "either files or a package"),
        ({"split": [0.8, 0.1, 0.2]}, "add up"),
        ({"split": [1.0]}, "split"),
        ({"licence": ""}, "licence"),
        ({"colour": "red"}, "colour"),
        ({"name": "../x"}, "name"),
        ({"files": fields()["files"] * 2}, "same name"),
        *[
            ({"files": [fields()["files"][0] | {key: value}]}, f"files.0.{key}")
            for key, value in [
                ("name", "../a"),
                ("name", ".a"),
                ("name", "a/b"),
                ("url", "file:///etc/passwd"),
                ("bytes", -1),
                ("bytes", "1"),
                ("sha256", "0" * 63),
                ("lines", 0),
            ]
        ],
    ],
)
def test_a_wrong_card_is_refused_with_the_fields_name(tmp_path, changes, what):
    (tmp_path / "some-data.yaml").write_text(yaml.safe_dump(fields(**changes)))
    with pytest.raises(UserError, match=what) as caught:
        load_card("some-data", tmp_path)
    assert "some-data.yaml" in str(caught.value)


@pytest.mark.parametrize(
    "content", ["", "- 1", "a: [", "!!python/object/apply:os.system [false]", "\x00", "name: other"]
)
def test_a_file_that_is_no_card_is_a_users_mistake(tmp_path, content):
    (tmp_path / "some-data.yaml").write_text(content)
    with pytest.raises(UserError, match=r"some-data\.yaml"):
        load_card("some-data", tmp_path)


def test_a_card_is_called_as_its_file(tmp_path):
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(fields()))
    with pytest.raises(UserError, match="name is 'some-data'"):
        load_card("other", tmp_path)


def test_a_file_is_downloaded_once(tmp_path, server):
    handler, card = server
    (path,) = fetch(card, tmp_path, None)
    assert path.read_bytes() == CONTENT
    assert fetch(card, tmp_path, None) == [path]
    assert handler.ranges == [None]
    assert sorted(file.name for file in path.parent.iterdir() if not file.name.startswith(".")) == ["file.bin"]


def test_a_broken_download_goes_on_where_it_broke_off(tmp_path, server):
    handler, card = server
    handler.breaks_at = [1000, 500]
    (path,) = fetch(card, tmp_path, None)
    assert path.read_bytes() == CONTENT
    assert handler.ranges == [None, "bytes=1000-", "bytes=1500-"]


def test_a_later_run_goes_on_too(tmp_path, server):
    handler, card = server
    handler.breaks_at = [10, 10, 10]
    with pytest.raises(UserError, match="can't be downloaded"):
        fetch(card, tmp_path, None)
    (path,) = fetch(card, tmp_path, None)
    assert path.read_bytes() == CONTENT
    assert handler.ranges[-1] == "bytes=30-"


def test_a_server_without_ranges_is_read_from_the_beginning(tmp_path, server):
    handler, card = server
    handler.breaks_at = [1000]
    handler.knows_ranges = False
    (path,) = fetch(card, tmp_path, None)
    assert path.read_bytes() == CONTENT


def test_a_file_that_grew_is_cut_off_and_refused(tmp_path, server):
    handler, card = server
    handler.content = CONTENT * 3
    with pytest.raises(UserError, match="larger than the 10,240 bytes"):
        fetch(card, tmp_path, None)
    assert not (tmp_path / "downloads/some-data/file.bin").exists()


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusal_says_the_address_and_the_ways_out(tmp_path, server, status):
    handler, card = server
    handler.status = status
    with pytest.raises(UserError) as caught:
        fetch(card, tmp_path, None)
    for said in (str(status), card.files[0].url, "REPRISE_MIRROR", "data/mirror", "data.path"):
        assert said in str(caught.value)


def test_a_changed_file_is_refused_and_not_kept(tmp_path, server):
    handler, card = server
    handler.content = b"!" + CONTENT[1:]
    with pytest.raises(UserError, match="sha256 differs"):
        fetch(card, tmp_path, None)
    assert [path.name for path in (tmp_path / "downloads/some-data").iterdir() if path.suffix != ".lock"] == []
    handler.content = CONTENT
    assert fetch(card, tmp_path, None)[0].read_bytes() == CONTENT


def test_a_short_file_is_refused(tmp_path, server):
    handler, card = server
    handler.content = CONTENT[:-1]
    with pytest.raises(UserError, match="can't be downloaded"):
        fetch(card, tmp_path, None)


def test_a_damaged_cached_file_is_fetched_again(tmp_path, server):
    _, card = server
    (path,) = fetch(card, tmp_path, None)
    path.write_bytes(CONTENT[:-1] + b"!")
    assert fetch(card, tmp_path, None)[0].read_bytes() == CONTENT


def test_no_network_is_a_users_error_with_the_ways_out(tmp_path, monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(UserError, match=r"(?s)127\.0\.0\.1:9/file\.bin.*mirror"):
        fetch(make_card("http://127.0.0.1:9/file.bin"), tmp_path, None)


@pytest.mark.parametrize("place", ["some-data/file.bin", "file.bin"])
def test_a_mirror_is_used_before_the_network(tmp_path, server, place):
    handler, card = server
    mirrored = tmp_path / "mirror" / place
    mirrored.parent.mkdir(parents=True)
    mirrored.write_bytes(CONTENT)
    assert fetch(card, tmp_path / "cache", tmp_path / "mirror") == [mirrored]
    assert handler.ranges == []


def test_another_file_in_the_mirror_is_passed_over_and_named_when_all_fails(tmp_path, server):
    handler, card = server
    (tmp_path / "file.bin").write_bytes(b"!" + CONTENT[1:])
    assert fetch(card, tmp_path / "cache", tmp_path)[0].read_bytes() == CONTENT
    handler.status = 404
    with pytest.raises(UserError, match=r"file\.bin isn't that file"):
        fetch(card, tmp_path / "other-cache", tmp_path)


def test_the_mirror_is_named_by_the_environment_or_by_a_file(tmp_path, monkeypatch):
    monkeypatch.delenv("REPRISE_MIRROR", raising=False)
    assert mirror_folder(tmp_path) is None
    for name in ("one", "two", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "data" / "mirror").write_text("one\n")
    assert mirror_folder(tmp_path) == tmp_path / "one"
    monkeypatch.setenv("REPRISE_MIRROR", str(tmp_path / "two"))
    assert mirror_folder(tmp_path) == tmp_path / "two"
    monkeypatch.setenv("REPRISE_MIRROR", str(tmp_path / "three"))
    with pytest.raises(UserError, match=r"REPRISE_MIRROR: no such folder"):
        mirror_folder(tmp_path)


def test_of_a_file_with_lines_only_the_first_are_the_data(tmp_path):
    content = b"a\nb\r\nc\nd"
    (tmp_path / "file.txt").write_bytes(content)
    one = {"name": "file.txt", "url": "https://127.0.0.1:9/", "bytes": len(content)}
    one["sha256"] = hashlib.sha256(content).hexdigest()
    for lines, kept in ((2, b"a\nb\r\n"), (4, content)):
        card = Card.model_validate(fields(name="some-data", reader="lines", files=[one | {"lines": lines}]))
        for _ in range(2):
            (path,) = fetch(card, tmp_path / "cache", tmp_path)
            assert (path.name, path.read_bytes()) == ("file.txt", kept)
    assert (tmp_path / "file.txt").read_bytes() == content
    card = Card.model_validate(fields(name="some-data", reader="lines", files=[one | {"lines": 5}]))
    with pytest.raises(UserError, match=r"has 4 lines, but the data set's card says 5"):
        fetch(card, tmp_path / "cache", tmp_path)


def test_a_card_is_ingested_from_its_mirror(tmp_path, monkeypatch):
    content = "".join(f"name{number}\n" for number in range(50)).encode()
    file = {"name": "names.txt", "url": "https://127.0.0.1:9/", "bytes": len(content)}
    file["sha256"] = hashlib.sha256(content).hexdigest()
    card = Card.model_validate(fields(name="some-data", reader="lines", files=[file], split=[0.5, 0.3, 0.2]))
    monkeypatch.setattr("components.datasets.ingest.load_card", lambda name: card)
    monkeypatch.setenv("REPRISE_MIRROR", str(tmp_path))
    Path(tmp_path / "names.txt").write_bytes(content)
    arguments = {"root": tmp_path, "cache_dir": tmp_path / "cache", "seed": 0}
    ref = ingest({"dataset": "some-data"}, {"kind": "characters"}, **arguments)
    store = Store.open(ref.path)
    assert [len(store.split(split)) for split in ("train", "val", "test")] == [25, 15, 10]
    with pytest.raises(UserError, match=r"data\.reader"):
        ingest({"dataset": "some-data", "reader": "text"}, {"kind": "characters"}, **arguments)


FIRST = datetime(2011, 1, 1, 0, 15)
TIMES = [str(FIRST + timedelta(minutes=15 * step)) for step in range(400)]
LOADS = '"";"MT_001";"MT_200"\n' + "".join(f'"{time}";0;{step},5\n' for step, time in enumerate(TIMES))
APPLES = "".join(
    json.dumps({"word": "apple", "recognized": n != 2, "drawing": [[[n, 2.5, 9], [3.5, 4, 5], [0, 16, 31]]]}) + "\n"
    for n in range(7)
)
FORMS = {
    "electricity": ("forecast", LOADS, ["data.value=[MT_200]", "data.horizon=8", "data.origins=2"]),
    "quickdraw-apple": ("handwriting", APPLES, ["data.most=5", "encoding.texts=false", "data.split=[0.4,0.2,0.4]"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_a_recipe_reads_files_of_the_form_that_a_card_names(tmp_path, monkeypatch, name):
    card, (recipe, content, changes) = load_card(name), FORMS[name]
    path = tmp_path / card.files[0].name
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("LD2011_2014.txt", content)
    else:
        path.write_text(content, encoding="utf-8")
    facts = {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    small = card.model_copy(update={"files": [card.files[0].model_copy(update=facts)]})
    monkeypatch.setattr("components.datasets.ingest.load_card", lambda _: small)
    monkeypatch.setenv("REPRISE_MIRROR", str(tmp_path))
    changes = [f"data.dataset={name}", f"data.reader={card.reader}", *changes]
    sections = read_recipe(CODE / "flows" / "recipes" / f"{recipe}.yaml", changes)
    ref = ingest(sections.data, sections.encoding, root=tmp_path, cache_dir=tmp_path / "cache", seed=0)
    store = Store.open(ref.path)
    splits = [store.split(split) for split in ("train", "val", "test")]
    assert [len(split) for split in splits] == {"electricity": [1, 1, 1], "quickdraw-apple": [2, 1, 2]}[name]
    if name == "electricity":
        np.testing.assert_allclose(splits[2][0]["series"][:, 0], np.arange(400) + 0.5)
