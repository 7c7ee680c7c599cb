"""From a download to a folder of records, or what remains to be done of it."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import tensorflow_datasets as tfds

from mcl_jax.data.builders import shards
from mcl_jax.data.builders.datasets import BUILDERS
from mcl_jax.data.prepare.jobs import MANIFEST, read_manifest
from mcl_jax.data.prepare.run import Summary
from mcl_jax.data.records import Record
from mcl_jax.data.sources import RECORDS_MANIFEST, read_records_manifest
from mcl_jax.errors import DataError


def prepare_records(
    dataset: str, src: Path, out: Path, *, workers: int, skip_damaged: bool, progress: bool
) -> Summary:
    """Writes a download as records; `mcl_jax.data.prepare.prepare` has the arguments.

    Everything is made in a folder `.OUT.partial` beside OUT, and takes its place when complete.

    Raises:
        DataError: if the source or the output folder cannot be used, or files of the source are damaged.
    """
    try:
        return _prepare(dataset, src, out.resolve(), workers, skip_damaged, progress)
    except OSError as error:
        raise DataError(f"--out: {str(out)!r} cannot be written: {error.strerror or error}") from None


def _prepare(dataset: str, src: Path, out: Path, workers: int, skip_damaged: bool, progress: bool) -> Summary:
    plan = shards.plan(dataset, src)
    if out.exists() and not (out / RECORDS_MANIFEST).is_file():
        if not out.is_dir() or any(out.iterdir()):
            raise DataError(f"--out: {str(out)!r} is not empty and holds no records; give a new folder")
        out.rmdir()
    _check_same(plan, out)
    if _is_current(out, dataset, plan.stamp):
        return _summarize(out)
    partial = out.with_name(f".{out.name}.partial")
    builder = BUILDERS[dataset](
        data_dir=str(partial / "tfds"),
        staging=partial / "shards",
        workers=workers,
        skip_damaged=skip_damaged,
        progress=progress,
    )
    built = Path(builder.data_dir)
    if not _is_current(built, dataset, plan.stamp):
        shutil.rmtree(built, ignore_errors=True)
        _take_over(plan, out, partial / "shards")
        config = tfds.download.DownloadConfig(manual_dir=str(src), try_download_gcs=False)
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS's talk of a download of unknown size
            builder.download_and_prepare(download_config=config)
    if out.exists():
        shutil.rmtree(partial / "replaced", ignore_errors=True)
        out.replace(partial / "replaced")
    built.replace(out)
    shutil.rmtree(partial)
    return _summarize(out)


def _check_same(plan: shards.Plan, out: Path) -> None:
    """Refuses to replace records that this source cannot give again."""
    planned = {record for job in plan.jobs for record in job.records}
    try:
        manifest = json.loads((out / RECORDS_MANIFEST).read_bytes())
        other = manifest["dataset"] != plan.dataset
        held = [Record(s, c, v, "") for s, c, v, _ in manifest["sequences"]]
        gone = [record for record in held if record not in planned]
    except (OSError, ValueError, KeyError, TypeError):  # none, or damaged: to be made anew
        return
    if other or gone:
        what = f"of {manifest['dataset']}" if other else f"of {gone[0].key}, which --src has not"
        raise DataError(
            f"--out: {str(out)!r} holds records {what}; give a new folder, or delete this one first"
        )


def _take_over(plan: shards.Plan, out: Path, staging: Path) -> None:
    """Puts the shards of earlier records where the builder finds what it need not do again."""
    if staging.exists():  # an interrupted run has done so
        return
    try:
        names = [name for name, outcome in read_manifest(out, plan.origin).items() if outcome.size]
        files = json.loads((out / RECORDS_MANIFEST).read_bytes())["files"]
        shards_of_files = list(zip(files, names, strict=True))
    except (DataError, OSError, ValueError, KeyError, TypeError):  # none, or damaged: all is done again
        return
    staging.mkdir(parents=True)
    shutil.copy2(out / MANIFEST, staging / MANIFEST)  # first: what is missing then is done again
    for file, name in shards_of_files:
        if (out / file).is_file():
            try:
                (staging / name).hardlink_to(out / file)
            except OSError:  # not on every file system
                shutil.copy2(out / file, staging / name)


def _is_current(folder: Path, dataset: str, stamp: str) -> bool:
    try:
        manifest = read_records_manifest(folder)
    except DataError:
        return False
    return (manifest["dataset"], manifest["source"]) == (dataset, stamp)


def _summarize(folder: Path) -> Summary:
    manifest = json.loads((folder / RECORDS_MANIFEST).read_bytes())
    frames = [frames for *_, frames in manifest["sequences"]]
    return Summary(len(frames), sum(frames), manifest["skipped_sequences"], manifest["skipped_frames"])
