"""The service over real connections: what it answers, what it refuses, and how it ends."""

import asyncio
import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mcl_jax.errors import ConfigError, DataError
from mcl_jax.gallery.calibration import Calibration
from mcl_jax.gallery.gallery import open_gallery
from mcl_jax.gallery.store import INDEX, ModelId
from mcl_jax.serving.access import KEY_VARIABLE, is_loopback, read_key
from mcl_jax.utils.extras import EXTRAS

for library in EXTRAS["serve"]:
    pytest.importorskip(library, reason="needs the extra `serve`")

from running_service import (  # noqa: E402
    LIMITS,
    MODEL,
    RAW,
    Served,
    embed,
    form,
    frames_zip,
    npy,
    npz,
    serving,
    walk,
)

from mcl_jax.serving.application import make_application  # noqa: E402
from mcl_jax.serving.server import bind  # noqa: E402
from mcl_jax.serving.service import Service  # noqa: E402

KEY = "k" * 32
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    """A service with small limits and an empty gallery."""
    with serving(tmp_path_factory.mktemp("service") / "G") as service:
        yield service


class Gate:
    """The formula, which waits to be let go, and notes its batches."""

    def __init__(self):
        self.open, self.entered = threading.Event(), threading.Event()
        self.batches: list[int] = []

    def __call__(self, walks):
        self.batches.append(len(walks))
        self.entered.set()
        assert self.open.wait(60)
        return embed(walks)


def embedding_of(answer) -> list[float]:
    return answer["walks"][0]["embedding"][0]


@pytest.mark.parametrize(
    "content", [npy(walk(15)), npz(a=walk(15)), walk(15).dumps(), frames_zip(15), frames_zip(15, "masks/")]
)
def test_a_walk_comes_in_any_of_the_formats_raw_or_in_a_form(served, content):
    status, raw = served.ask("POST", "/embed", content, RAW)
    assert (status, raw["model"]) == (200, MODEL.digest)
    assert (raw["walks"][0]["frames"], len(embedding_of(raw))) == (15, 2)
    status, formed = served.post("/embed", content)
    assert (status, formed["walks"][0]["embedding"]) == (200, raw["walks"][0]["embedding"])


def test_the_first_720_frames_of_a_walk_count(served):
    wide = dataclasses.replace(LIMITS, body_bytes=2**23)
    with serving(served.folder, limits=wide) as larger:
        assert embedding_of(larger.ask("POST", "/embed", npy(walk(800)), RAW)[1])[0] == 720


def test_two_walks_are_compared_by_the_thresholds_of_the_gallery(tmp_path):
    with serving(tmp_path / "G") as service:
        apart = {"distance": 3.0, "metric": "euc", "same": None, "threshold": None, "far": None}
        assert service.post("/compare", npy(walk(20)), npy(walk(23))) == (200, apart)
        open_gallery(service.folder).calibrate(Calibration("m", "euc", {0.1: 3.5, 0.01: 1.0}))
        both = npz(a=walk(20), b=walk(23))
        assert service.ask("POST", "/compare", both, RAW)[1]["same"] is False
        assert service.ask("POST", "/compare?far=0.1", both, RAW)[1]["same"] is True
        status, answer = service.ask("POST", "/compare?far=0.5", both, RAW)
        assert (status, answer["error"]) == (
            422,
            "far: the gallery has no threshold for 0.5; it has them for 0.1, 0.01",
        )


def test_people_are_enrolled_identified_and_gone_once_another_program_removes_them(tmp_path):
    with serving(tmp_path / "G") as service:
        assert service.post("/identify", npy(walk(20))) == (
            409,
            {"error": "nobody is enrolled yet; enrol somebody first"},
        )
        enrolled = {"name": "Ann", "walks": 1, "people": 1}
        assert service.post("/enroll", npy(walk(20)), name=" Ann ") == (200, enrolled)
        status, answer = service.post("/enroll", npy(walk(20)), name="Ann")
        assert (status, "has it already" in answer["error"]) == (409, True)
        more = service.post("/enroll", npy(walk(21)), npy(walk(22)), name="Ann", add="true")
        assert more == (200, {"name": "Ann", "walks": 3, "people": 1})
        service.post("/enroll", npy(walk(40)), name="Bob")
        status, answer = service.post("/identify?top=1", npy(walk(39)), npy(walk(22)))
        assert [each["matches"] for each in answer["walks"]] == [
            [{"name": "Bob", "distance": 1.0}],
            [{"name": "Ann", "distance": 0.0}],
        ]
        assert answer["walks"][0]["walk"] == "w0"
        assert answer["walks"][0]["decided"] is False
        assert service.post("/identify?threshold=2", npy(walk(39)))[1]["walks"][0]["name"] == "Bob"
        open_gallery(service.folder).delete("Bob")
        assert service.post("/identify", npy(walk(39)))[1]["walks"][0]["matches"][0]["name"] == "Ann"


def test_a_damaged_gallery_is_one_line_without_a_path(tmp_path):
    with serving(tmp_path / "G") as service:
        service.post("/enroll", npy(walk(20)), name="Ann")
        (service.folder / INDEX).write_text("{}")
        line = {"error": "the gallery cannot be used now; the service's log says why"}
        assert service.post("/identify", npy(walk(20))) == (500, line)
        assert service.post("/enroll", npy(walk(20)), name="Bob") == (500, line)
        assert service.ask("GET", "/health")[0] == 200


ONE = npy(walk(15))
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
    "pickle": ("POST", "/embed", b"\x80\x04cos\nsystem\n(S'x'\ntR.", RAW, 422, "nothing was executed"),
    "zip": ("POST", "/embed", b"PK\x03\x04" * 9, RAW, 422, "not a readable zip file"),
    "no frame": ("POST", "/embed", b"PK\x05\x06" + bytes(18), RAW, 422, "has no PNG frame"),
    "unpacks": ("POST", "/embed", npz(a=walk(5000)), RAW, 413, "unpacks to 14080"),
    "large": ("POST", "/embed", bytes(2**20 + 1), RAW, 413, "is larger than 1048576 bytes"),
    "five": ("POST", "/embed", npz(**dict.fromkeys("abcde", walk(15))), RAW, 413, "may have 4 walks"),
    "five files": ("POST", "/embed", *form(*[ONE] * 5), 400, "Too many files"),
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


def talk(port: int, sent: bytes) -> bytes:
    """Sends bytes and returns all that comes back until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            return b"".join(iter(lambda: connection.recv(4096), b""))
    return b""


HEAD = b"POST /embed HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/octet-stream\r\n"


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


def test_walks_of_many_clients_share_batches_and_each_gets_its_own(tmp_path):
    gate = Gate()
    with serving(tmp_path / "G", gate) as service, ThreadPoolExecutor(51) as clients:
        lengths = [15 + 3 * i for i in range(50)]
        first = clients.submit(service.post, "/embed", npy(walk(15)))
        assert gate.entered.wait(60)
        answers = [clients.submit(service.ask, "POST", "/embed", npy(walk(n, n % 30)), RAW) for n in lengths]
        waiting = "mcl_jax_waiting_walks 50.0"
        while waiting not in service.ask("GET", "/metrics")[1]:
            pass
        gate.open.set()
        assert first.result()[0] == 200
        got = [embedding_of(answer.result()[1]) for answer in answers]
    assert got == [[n, n % 30] for n in lengths]
    assert sum(gate.batches) == 51
    assert len(gate.batches) <= 8  # 4,425 frames in batches of 1,024


def test_a_walk_that_cannot_be_embedded_spoils_no_other(tmp_path):
    gate = Gate()

    def picky(walks):
        found = gate(walks)
        if any(len(frames) == 66 for frames in walks):
            raise DataError("embeddings: not finite")
        return np.where(found == 77, np.nan, found)

    with serving(tmp_path / "G", picky) as service, ThreadPoolExecutor(4) as clients:
        answers = [clients.submit(service.post, "/embed", npy(walk(n))) for n in (20, 66, 77, 30)]
        assert gate.entered.wait(60)
        gate.open.set()
        assert [answer.result()[0] for answer in answers] == [200, 422, 422, 200]


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


def test_the_page_shows_nobody_and_responsible_use_is_one_click_away(tmp_path):
    with serving(tmp_path / "G") as service:
        service.post("/enroll", npy(walk(20)), name="Ann")
        page = service.ask("GET", "/")[1]
        assert '<a href="/responsible-use">' in page
        assert service.ask("GET", "/responsible-use")[1] == (ROOT / "docs/responsible_use.md").read_text()
        openapi = service.ask("GET", "/openapi.json")[1]
        assert {"/embed", "/compare", "/identify", "/enroll", "/health", "/metrics"} <= openapi[
            "paths"
        ].keys()
        assert all(f"{path}<" in page for path in openapi["paths"])
        assert "://" not in page  # nothing comes from elsewhere
        figures = service.ask("GET", "/metrics")[1]
        assert 'mcl_jax_requests_total{endpoint="/enroll",status="200"} 1.0' in figures
        assert "Ann" not in page + figures + str(openapi)


_PROGRAM = """
import sys, threading
sys.path.insert(0, {here!r})
from running_service import *
from mcl_jax.serving.server import run_until_signal
from pathlib import Path

entered = threading.Event()
def slow(walks):
    print("embedding", flush=True)
    input()
    return embed(walks)

open_gallery({folder!r}, create=MODEL)
listener = bind("127.0.0.1", 0, None)
app = make_application(Service(slow, MODEL, {folder!r}, LIMITS), None)
run_until_signal(app, listener, LIMITS, lambda: print(listener.getsockname()[1], flush=True))
print("left", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_requests_in_flight_finish_and_the_program_leaves_with_0(tmp_path, number):
    code = _PROGRAM.format(here=str(Path(__file__).parent), folder=str(tmp_path / "G"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with (
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        ) as program,
        ThreadPoolExecutor(1) as client,
    ):
        port = int(program.stdout.readline())
        sent = HEAD + b"Content-Length: %d\r\n\r\n" % len(ONE) + ONE
        answer = client.submit(talk, port, sent)
        assert program.stdout.readline() == "embedding\n"
        program.send_signal(number)
        refused = False
        while not refused:  # it listens no more
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                refused = True
        program.stdin.write("\n")
        program.stdin.flush()
        assert answer.result().startswith(b"HTTP/1.1 200")
        assert program.stdout.readline() == "left\n"
        assert program.wait(60) == 0


@pytest.mark.slow
def test_fifty_clients_get_what_embed_alone_gives_and_nothing_is_compiled_meanwhile(
    toy_run, tmp_path, caplog
):
    import jax

    import mcl_jax

    gait = mcl_jax.load(toy_run)
    rng = np.random.default_rng(0)
    walks = [
        walk(n, n % 30) & rng.integers(128, 256, (n, 64, 44), np.uint8) for n in rng.integers(15, 200, 50)
    ]
    alone = [gait.embed(one)[0] for one in walks]
    gait.compile_all()
    jax.config.update("jax_log_compiles", True)
    try:
        caplog.clear()
        model = ModelId(gait.source, gait.digest, gait.parts, gait.channels)
        with serving(tmp_path / "G", gait.embed, model=model) as service, ThreadPoolExecutor(50) as clients:
            answers = [*clients.map(lambda one: service.ask("POST", "/embed", npy(one), RAW), walks)]
        assert not [record for record in caplog.records if "Compiling jit(embed)" in record.getMessage()]
    finally:
        jax.config.update("jax_log_compiles", False)
    assert {status for status, _ in answers} == {200}
    got = np.array([answer["walks"][0]["embedding"] for _, answer in answers])
    np.testing.assert_allclose(got, np.stack(alone), rtol=1e-5, atol=1e-5 * np.abs(alone).max())
