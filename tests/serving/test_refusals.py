"""Requests that the service refuses: mistakes, sizes, slow clients, a full queue, a missing key."""

import asyncio
import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mcl_jax.errors import ConfigError
from mcl_jax.gallery.gallery import open_gallery
from mcl_jax.serving.access import KEY_VARIABLE, is_loopback, read_key
from mcl_jax.utils.extras import EXTRAS

for library in EXTRAS["serve"]:
    pytest.importorskip(library, reason="needs the extra `serve`")

from running_service import (  # noqa: E402
    HEAD,
    LIMITS,
    MODEL,
    ONE,
    RAW,
    Gate,
    embed,
    form,
    npy,
    npz,
    serving,
    talk,
    walk,
)

from mcl_jax.serving.application import make_application  # noqa: E402
from mcl_jax.serving.server import bind  # noqa: E402
from mcl_jax.serving.service import Service  # noqa: E402

KEY = "k" * 32


BAD = {
    "no path": ("GET", "/nowhere", b"", {}, 404, "GET /nowhere: Not Found"),
    "method": ("GET", "/embed", b"", {}, 405, "GET /embed: Method Not Allowed"),
    "no type": ("POST", "/embed", ONE, {}, 415, "Content-Type: is missing; send multipart/form-data"),
    "json": ("POST", "/embed", b"{}", {"Content-Type": "application/json"}, 415, "is application/json"),
    "empty": ("POST", "/embed", b"", RAW, 422, "body: is empty; send silhouettes"),
    "unknown": ("POST", "/embed", b"GIF89a" * 9, RAW, 415, "body: is of an unknown kind; send"),
    "cut off": ("POST", "/embed", ONE[:-1], RAW, 422, "is damaged: its shape"),
    "objects": ("POST", "/embed", npy(np.array([None])), RAW, 422, "holds pickled objects"),
    "type": ("POST", "/embed", npy(np.zeros((20, 64, 44))), RAW, 422, "frames are float64"),
    "shape": ("POST", "/embed", npy(np.zeros((20, 64), np.uint8)), RAW, 422, "array of shape"),
    "black": ("POST", "/embed", npy(0 * walk(20)), RAW, 422, "all pixels are 0"),
    "few": ("POST", "/embed", npy(walk(14)), RAW, 422, "has 14 silhouettes, too few"),
    "pickle": (
        "POST",
        "/embed",
        b"\x80\x04cos\nsystem\n(S'x'\ntR.",
        RAW,
        422,
        "refused without executing anything",
    ),
    "zip": ("POST", "/embed", b"PK\x03\x04" * 9, RAW, 422, "not a readable zip file"),
    "no frame": ("POST", "/embed", b"PK\x05\x06" + bytes(18), RAW, 422, "has no PNG frame"),
    "unpacks": ("POST", "/embed", npz(a=walk(5000)), RAW, 413, "unpacks to 14080"),
    "large": ("POST", "/embed", bytes(2**20 + 1), RAW, 413, "is larger than 1048576 bytes"),
    "five": ("POST", "/embed", npz(**dict.fromkeys("abcde", walk(15))), RAW, 413, "may have 4 walks"),
    "five files": ("POST", "/embed", *form(*[ONE] * 5), 413, "may have 4 walks"),
    "no file": ("POST", "/embed", *form(), 422, "has no walk"),
    "no form": ("POST", "/embed", b"x", {"Content-Type": "multipart/form-data"}, 400, "boundary"),
    "field": ("POST", "/embed", *form(ONE, far="0.1"), 422, "'far': is no field of this form"),
    "setting": ("POST", "/embed?far=0.1", ONE, RAW, 422, "'far': is no setting of this address"),
    "rate": ("POST", "/identify?far=2", ONE, RAW, 422, "far: Input should be less than 1"),
    "both": ("POST", "/identify?far=.1&threshold=1", ONE, RAW, 422, "give one of them"),
    "text": ("POST", "/identify?top=x", ONE, RAW, 422, "top: Input should be a valid integer"),
    "one": ("POST", "/compare", ONE, RAW, 422, "has 1 walk; send two"),
    "no name": ("POST", "/enroll", ONE, RAW, 422, "name: is missing"),
    "name": ("POST", "/enroll", *form(ONE, name=" "), 422, "name: ' ' is not valid"),
    "add": ("POST", "/enroll", *form(ONE, name="A", add="yes"), 422, "add: is 'yes'"),
    "host": ("GET", "/health", b"", {"Host": "elsewhere.example"}, 403, "must be this machine"),
    "origin": ("POST", "/embed", ONE, {**RAW, "Origin": "http://a.example"}, 403, "other web pages"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_line_with_its_status(served, case):
    method, path, body, headers, expected, line = BAD[case]
    status, answer = served.ask(method, path, body, headers)
    assert status == expected
    assert list(answer) == ["error"]
    assert line in answer["error"]
    assert "\n" not in answer["error"]
    assert str(served.folder) not in answer["error"]
    assert served.ask("GET", "/health") == (200, {"status": "ok"})


def test_a_large_body_is_refused_by_its_head_or_once_too_much_has_come(served, tmp_path):
    with serving(tmp_path / "G") as service:
        head = HEAD + b"Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n"
        assert talk(service.port, head).startswith(b"HTTP/1.1 413")
    piece = b"%x\r\n" % 2**16 + bytes(2**16) + b"\r\n"
    sent = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + 40 * piece + b"0\r\n\r\n"
    assert talk(served.port, sent).startswith(b"HTTP/1.1 413")


def test_no_http_is_answered_and_no_end_of_a_head_is_awaited_for_long(served, tmp_path):
    assert talk(served.port, b"\x16\x03\x01" + bytes(99)).startswith(b"HTTP/1.1 400")
    with serving(tmp_path / "G", limits=dataclasses.replace(LIMITS, seconds=0.05)) as service:
        assert talk(service.port, b"GET /health HTTP/1.1\r\nHost:") == b""
        # On a busy machine the first request may be too late, too.
        answer = talk(service.port, b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /he")
        assert answer.count(b"HTTP/1.1") <= 1


@pytest.mark.parametrize(
    ("ending", "status", "line"),
    [
        (None, 408, b"the request took longer than 0.01 s to arrive"),
        ({"type": "http.disconnect"}, 400, b"the client left before the end of the body"),
    ],
)
def test_a_body_without_an_end_is_not_awaited_for_long(tmp_path, ending, status, line):
    sent = in_memory(tmp_path / "G", [{"type": "http.request", "body": b"x", "more_body": True}, ending])
    assert sent[0]["status"] == status
    assert sent[1]["body"] == b'{"error":"%b"}' % line


def test_an_answer_that_is_not_taken_is_given_up(tmp_path, caplog):
    whole = {"type": "http.request", "body": ONE, "more_body": False}
    assert in_memory(tmp_path / "G", [whole], takes=0) == []
    assert "a client did not take its answer in 0.01 s" in caplog.text


def in_memory(folder: Path, pieces: list, takes: int = 9) -> list:
    """Returns what is sent in answer to a body, of which `takes` messages are taken."""
    open_gallery(folder, create=MODEL)
    service = Service(embed, MODEL, folder, dataclasses.replace(LIMITS, seconds=0.01))
    headers = [(b"host", b"localhost"), (b"content-type", b"application/octet-stream")]
    scope = {"type": "http", "method": "POST", "path": "/embed", "headers": headers, "query_string": b""}
    coming, sent = iter(pieces), []

    async def receive():
        return next(coming, None) or await asyncio.Future()

    async def send(message):
        if len(sent) == takes:
            await asyncio.Future()
        sent.append(message)

    asyncio.run(make_application(service, None)(scope, receive, send))
    service.close()
    return sent


def test_a_full_queue_refuses_and_bodies_are_bounded_together(tmp_path):
    gate = Gate()
    small = dataclasses.replace(LIMITS, waiting=1, held_bytes=2**20)
    with serving(tmp_path / "G", gate, small) as service, ThreadPoolExecutor(2) as clients:
        first = clients.submit(service.post, "/embed", ONE)
        assert gate.entered.wait(60)
        status, answer = service.post("/embed", ONE, ONE)
        assert (status, answer["error"]) == (503, "too many walks wait; try again in a while")
        status, answer = service.ask("POST", "/embed", bytes(2**20 - 100), RAW)
        assert (status, answer["error"]) == (503, "too many requests at once; try again in a while")
        gate.open.set()
        assert first.result()[0] == 200
        assert service.post("/embed", ONE)[0] == 200


def test_without_memory_for_a_batch_the_client_may_try_again(tmp_path):
    def no_memory(walks):
        raise MemoryError

    with serving(tmp_path / "G", no_memory) as service:
        assert service.post("/embed", ONE) == (
            503,
            {"error": "there is not enough memory; try again in a while"},
        )


def test_the_key_opens_all_but_what_is_about_nobody(tmp_path):
    with serving(tmp_path / "G", key=KEY) as service:
        for path in ("/", "/health", "/openapi.json", "/responsible-use"):
            assert service.ask("GET", path)[0] == 200, path
        for sent in ({}, {"Authorization": f"Bearer {KEY}x"}, {"Authorization": KEY}):
            status, answer = service.ask("GET", "/metrics", headers=sent)
            assert (status, "Authorization: Bearer KEY" in answer["error"]) == (401, True)
        assert service.ask("POST", "/embed", ONE, RAW)[0] == 401
        right = {"Authorization": f"Bearer {KEY}"}
        assert service.ask("POST", "/embed", ONE, {**RAW, **right, "Host": "gait.example"})[0] == 200


def test_a_key_comes_from_the_environment_or_a_file(tmp_path, monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert read_key(None) is None
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    assert read_key(None) == KEY
    file = tmp_path / "key"
    file.write_text(f"{KEY[::-1]}\n")
    assert read_key(str(file)) == KEY[::-1]
    for wrong in ("short", f"{KEY} {KEY}", ""):
        file.write_text(wrong)
        with pytest.raises(ConfigError, match="a key has at least 16"):
            read_key(str(file))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_key(str(tmp_path / "none"))


def test_an_address_that_others_reach_needs_a_key_and_must_be_free():
    assert [*map(is_loopback, ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "a.example"))] == (
        [True] * 3 + [False] * 3
    )
    with pytest.raises(ConfigError, match="needs a key"):
        bind("0.0.0.0", 0, None)
    with bind("0.0.0.0", 0, KEY), bind("127.0.0.1", 0, None) as listener:
        listener.listen()
        with pytest.raises(ConfigError, match="cannot be taken: Address already in use"):
            bind("127.0.0.1", listener.getsockname()[1], None)
