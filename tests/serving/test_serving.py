"""The service over real connections: its answers, its batches, its page, and how it ends."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mcl_jax.errors import DataError
from mcl_jax.gallery.calibration import Calibration
from mcl_jax.gallery.gallery import open_gallery
from mcl_jax.gallery.store import INDEX, ModelId
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
    embedding_of,
    frames_zip,
    npy,
    npz,
    serving,
    talk,
    walk,
)

ROOT = Path(__file__).resolve().parents[2]


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
def test_fifty_clients_get_what_embed_alone_gives_and_nothing_is_compiled_meanwhile(tmp_path, caplog):
    import jax

    import mcl_jax

    gait = mcl_jax.load()  # the smallest model: each walk is embedded alone, too
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
