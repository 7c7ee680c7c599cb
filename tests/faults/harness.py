"""Injects faults into real runs (kills at any moment, damaged checkpoints) and compares results bit by bit.

    python tests/faults/harness.py kill FOLDER --times 200 --workers 1
    python tests/faults/harness.py damage FOLDER --times 60
    python tests/faults/harness.py table FOLDER

FOLDER keeps the data, the undisturbed run and `results.jsonl`; each call adds to it, so that the work can be
done in pieces (each with another --seed). `make faults` does all three. Linux only.

A run is a process forked from this one, which has imported the package but used no device; kills during
imports start a new interpreter.
"""

import argparse
import itertools
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from runs import POLL_SECONDS, Bench, Run, fingerprint, newest

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# What kills are aimed at, and how many of ten.
AIMS = {"any moment": 3, "a save": 3, "a test": 2, "compilation": 1.5, "importing": 0.5}
DAMAGES = ("a bit flipped", "truncated", "emptied", "deleted")
HUNG_SECONDS = 90.0


def strike(run: Run, aim: str, number: signal.Signals, rng: random.Random, seconds: float) -> str:
    """Sends a signal at a moment of the aimed kind; returns what is wrong with the end, or ''."""
    if aim in ("any moment", "importing"):
        spread = seconds if aim == "any moment" else 4.0
        wait_for(run, lambda: False, rng.uniform(0.05, spread))
    else:
        seen = {"a save": run.is_saving, "a test": run.is_testing, "compilation": run.is_compiling}[aim]
        for _ in range(rng.randrange(8) if aim == "a save" else 0):
            wait_for(run, seen)
            wait_for(run, lambda: not run.is_saving())
        wait_for(run, seen)
        time.sleep(rng.uniform(0, {"a save": 0.15, "a test": 2.0, "compilation": 4.0}[aim]))
    saved, printed = newest(run.workdir), run.printed()
    if run.ended:
        return "too late"
    run.send(number)
    return judge(run, number, run.wait(HUNG_SECONDS), saved, printed)


def judge(run: Run, number: signal.Signals, code: int | None, saved: int, printed: int) -> str:
    """Returns what is wrong with how a run ended, or ''.

    Args:
        run: that has ended.
        number: the signal it was sent.
        code: its exit code.
        saved: the newest step on disk before the signal.
        printed: the last step that it had told of before the signal.
    """
    after, errors = newest(run.workdir), run.errors()
    resumed = re.search(r"resuming after step (\d+)", errors)
    if code is None:
        return "it hung"
    if "Traceback" in errors:
        return "a traceback"
    if "damaged" in errors:
        return "a checkpoint was damaged"
    if resumed and int(resumed[1]) != run.before:
        return f"step {run.before} was on disk, and it went on from {resumed[1]}"
    if after < saved:
        return f"step {saved} was on disk, and then {after}"
    if number == signal.SIGKILL:
        return "" if code in (-number, 0) else f"exit code {code}"
    if code == 0:
        return ""
    if number == signal.SIGTERM and code == -number and not printed:
        return ""  # before it listens, where there is nothing to save
    if code != 128 + number:
        return f"exit code {code}"
    if after < printed:
        return f"step {printed} was done, and {after} is saved"
    told = re.search(r"saved step (\d+);", errors)
    return f"it says step {told[1]}, and {after} is on disk" if told and int(told[1]) != after else ""


def wait_for(run: Run, condition: Callable[[], bool], seconds: float = HUNG_SECONDS) -> None:
    until = time.monotonic() + seconds
    while not run.ended and not condition() and time.monotonic() < until:
        time.sleep(POLL_SECONDS)


def kill(bench: Bench, times: int, seed: int, until: float, aims: Sequence[str], workers: int) -> None:
    """Kills runs with up to `workers` loaders, each again and again until it finishes, and compares."""
    rng, known = random.Random(seed), bench.known()
    left, chain = times, 0
    while left > 0 and time.monotonic() < until:
        name, workdir = f"{seed}-{chain}", bench.folder / f"killed-{os.getpid()}"
        shutil.rmtree(workdir, ignore_errors=True)
        finished = False
        while left > 0 and not finished and time.monotonic() < until:
            aim, number = rng.choices(aims, [AIMS[aim] for aim in aims])[0], rng.choice(SIGNALS)
            loaders = rng.randint(0, workers)
            more = f"--config.data.workers={loaders}"
            run = Run(bench, workdir, more, cold=aim == "compilation", fresh=aim == "importing")
            wrong = strike(run, aim, number, rng, known["seconds"])
            finished = run.wait() == 0
            if wrong != "too late":
                left -= 1
                fault = f"{number.name}, aimed at {aim}"
                cut = aim == "a save" and number == signal.SIGKILL and run.is_saving()
                bench.record(fault=fault, chain=name, wrong=wrong, cut=cut, workers=loaders)
                print(f"{name}: {fault}, at step {newest(workdir)}: {wrong or 'well'}", flush=True)
            if wrong not in ("", "too late"):
                print(run.errors(), flush=True)
        compare(bench, workdir, name, known["fingerprint"])
        chain += 1


def damage(bench: Bench, times: int, seed: int, until: float) -> None:
    """Damages files of the newest checkpoint of a run, each in turn, and has it go on to the end."""
    rng, known = random.Random(seed), bench.known()
    begun = bench.folder / "begun"
    stop = bench.steps // 3 * 2
    if newest(begun) != stop:
        shutil.rmtree(begun, ignore_errors=True)
        Run(bench, begun, f"--config.train.steps={stop}", "--config.eval.protocol=none").wait()
    cases = list(damages_of(begun / "checkpoints" / str(stop)))
    for n, (kind, file) in enumerate(rng.sample(cases, min(times, len(cases)))):
        if time.monotonic() > until:
            return
        name, workdir = f"damage-{seed}-{n}", bench.folder / f"damaged-{os.getpid()}"
        shutil.rmtree(workdir, ignore_errors=True)
        shutil.copytree(begun, workdir)
        harm(workdir / "checkpoints" / str(stop) / file, kind, rng)
        run = Run(bench, workdir, "--config.eval.protocol=none")
        code, errors = run.wait(HUNG_SECONDS), run.errors()
        wrong = "a traceback" if "Traceback" in errors else "" if code == 0 else f"exit code {code}"
        bench.record(fault=f"a file of the newest checkpoint {kind}", chain=name, wrong=wrong, cut=False)
        print(f"{name}: {file} {kind}: {wrong or 'well'}", flush=True)
        if wrong:
            print(errors, flush=True)
        compare(bench, workdir, name, known["fingerprint"])


def damages_of(checkpoint: Path) -> Iterator[tuple[str, Path]]:
    files = sorted(p.relative_to(checkpoint) for p in checkpoint.rglob("*") if p.is_file())
    yield from itertools.product(DAMAGES, files)


def harm(path: Path, kind: str, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if kind == "deleted":
        path.unlink()
        return
    if kind == "a bit flipped" and content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content[: {"truncated": len(content) // 2, "emptied": 0}.get(kind, len(content))])


def compare(bench: Bench, workdir: Path, chain: str, expected: str) -> None:
    """Finishes a run undisturbed, if it has not, and records whether it ended as the undisturbed one did."""
    run = Run(bench, workdir)
    code = run.wait()
    identical = code == 0 and fingerprint(workdir) == expected
    bench.record(chain=chain, identical=identical)
    print(f"{chain}: {'bit-identical' if identical else 'ANOTHER END: ' + run.errors()}", flush=True)
    if identical:
        shutil.rmtree(workdir)
    else:
        workdir.rename(bench.folder / f"kept-{chain}")


def table(folder: Path) -> tuple[str, bool]:
    """Returns the results in Markdown, and whether nothing was lost."""
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    identical = {line["chain"]: line["identical"] for line in lines if "identical" in line}
    faults = defaultdict(list)
    for line in lines:
        if line.get("chain") in identical and "fault" in line:  # else this program was ended itself
            faults[line["fault"]].append(line)
    rows = ["| fault | times | then finished bit-identical | lost or wrong |", "|---|---|---|---|"]
    sound = True
    for fault in sorted(faults):
        rows.append(_row(fault, faults[fault], identical))
    everything = [line for some in faults.values() for line in some]
    rows.append(_row("all", everything, identical))
    sound = all(identical.values()) and not any(line["wrong"] for line in everything)
    cut = sum(line["cut"] for line in everything)
    loading = sum(line.get("workers", 0) > 0 for line in everything)
    rows += [
        "",
        f"{len(identical)} runs; {cut} of the kills left a save unfinished on disk, and {loading} were of a "
        "run with processes that load its batches.",
    ]
    return "\n".join(rows), sound


def _row(fault: str, some: list[dict], identical: dict[str, bool]) -> str:
    same = sum(identical.get(line["chain"], False) for line in some)
    return f"| {fault} | {len(some)} | {same} | {sum(bool(line['wrong']) for line in some)} |"


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", choices=("kill", "damage", "table"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=1e6, help="begin nothing new after this time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--test-every", type=int, default=20)
    parser.add_argument("--aims", nargs="+", choices=AIMS, default=list(AIMS))
    parser.add_argument("--workers", type=int, default=0, help="the most processes that load batches")
    given = parser.parse_args()
    if given.work != "table":
        os.environ["JAX_PLATFORMS"] = "cpu"
        bench = Bench(given.folder.resolve(), given.steps, given.test_every)
        bench.prepare()
        until = time.monotonic() + given.minutes * 60
        if given.work == "kill":
            kill(bench, given.times, given.seed, until, given.aims, given.workers)
        else:
            damage(bench, given.times, given.seed, until)
    text, sound = table(given.folder)
    print(text)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(_main())
