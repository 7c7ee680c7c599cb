"""Times the HTTP service: latency and walks a second, for one client and for many at once with mixed lengths.

    python benchmarks/serving.py --clients 1 8 50 --requests 200

The service runs in a process of its own, on this machine, with the model in the package unless --model says
otherwise; clients are threads here. Each request identifies one walk of 15 to 120 frames in a gallery of
100 people. "of embed" is walks a second as a share of what `Gait.embed` does with the same walks in one call;
both run on the same machine one after the other, so the share says more than the seconds where other work
disturbs them.
"""

import argparse
import http.client
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import numpy as np

import mcl_jax
from mcl_jax.cli.commands.walk_argument import load_model
from mcl_jax.gallery.gallery import open_gallery

COMMAND = "from mcl_jax.cli.program import main; main()"


def walks(number: int) -> list[np.ndarray]:
    """Returns uint8 [s, 64, 44]: narrow people, a little noisy, of mixed lengths."""
    rng = np.random.default_rng(0)
    made = []
    for length in rng.integers(15, 121, number):
        frames = np.zeros((length, 64, 44), np.uint8)
        frames[:, :, 16:28] = rng.integers(128, 256, (length, 64, 12))
        made.append(frames)
    return made


@contextmanager
def service(folder: str, model: str | None) -> Iterator[int]:
    """Starts the service on a gallery; yields its port."""
    given = ["--model", model] if model else []
    command = [sys.executable, "-c", COMMAND, "serve", "--gallery", folder, "--port", "0", *given]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ}) as process:
        line = process.stdout.readline()
        assert "served at" in line, line
        try:
            yield int(line.split("served at")[1].split(";")[0].rpartition(":")[2])
        finally:
            process.terminate()
            process.stdout.read()  # its last line, for which the pipe must stay open
    assert process.returncode == 0, process.returncode


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def ask_all(port: int, bodies: list[bytes], clients: int) -> tuple[np.ndarray, float]:
    """Sends each body once, by so many clients; returns seconds of each answer, and of all."""
    numbers, seconds = count(), np.zeros(len(bodies))

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while (number := next(numbers)) < len(bodies):
            start = time.perf_counter()
            connection.request(
                "POST", "/identify", bodies[number], {"Content-Type": "application/octet-stream"}
            )
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status == 200, content
            seconds[number] = time.perf_counter() - start
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="run, checkpoint or published name")
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 50])
    parser.add_argument("--requests", type=int, default=200)
    arguments = parser.parse_args()
    gait, model = load_model(arguments.model)
    sent = walks(arguments.requests)
    bodies = [npy(walk) for walk in sent]
    gait.compile_all()
    start = time.perf_counter()
    gait.embed(sent)
    alone = len(sent) / (time.perf_counter() - start)
    frames = sum(map(len, sent))
    print(f"{gait.name}, {len(sent)} walks, {frames} frames; mcl_jax {mcl_jax.__version__}")
    print(f"Gait.embed in one call: {alone:.1f} walks a second")
    with tempfile.TemporaryDirectory() as folder:
        gallery = open_gallery(folder, create=model)
        rows = np.random.default_rng(1).standard_normal((100, gait.parts, gait.channels), np.float32)
        for number, row in enumerate(rows):
            gallery.enroll(f"person {number}", row[None], [30])
        print(f"{'clients':>8}{'p50 ms':>9}{'p99 ms':>9}{'walks/s':>9}{'of embed':>10}{'of 1 client':>13}")
        first = 0.0
        with service(folder, arguments.model) as port:
            ask_all(port, bodies[:2], 1)  # the first answer reads the gallery
            for clients in arguments.clients:
                seconds, whole = ask_all(port, bodies, clients)
                rate = len(bodies) / whole
                first = first or rate
                p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
                shares = f"{rate / alone:>10.2f}{rate / first:>13.2f}"
                print(f"{clients:>8}{p50:>9.0f}{p99:>9.0f}{rate:>9.1f}{shares}", flush=True)


if __name__ == "__main__":
    main()
