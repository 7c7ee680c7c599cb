"""Prepares a dataset as a folder of records, or resumes an unfinished preparation."""

import contextlib
import io
import shutil
from pathlib import Path

import tensorflow_datasets as tfds

from mcl_jax.data.prepare.jobs import read_log
from mcl_jax.data.prepare.layouts import Download
from mcl_jax.data.prepare.prepare_options import Options
from mcl_jax.data.prepare.records import shards
from mcl_jax.data.prepare.records.builder import SilhouetteBuilder
from mcl_jax.data.prepare.summary import Summary
from mcl_jax.data.sequences import SequenceRef
from mcl_jax.data.stores.job_log import JOB_LOG
from mcl_jax.data.stores.manifest import RECORDS_MANIFEST, check_files, faults, read_manifest
from mcl_jax.errors import DataError


def prepare_records(download: Download, src: Path, out: Path, options: Options) -> Summary:
    """Writes a download as records; the arguments are those of `preparation.prepare_dataset`.

    Everything is written to a folder `.OUT.partial` beside OUT, which replaces OUT when complete.

    Raises:
        DataError: if the source or the output folder cannot be used, or files of the source are damaged.
    """
    try:
        return _prepare(download, src, out.resolve(), options)
    except OSError as error:
        raise DataError(f"--out: {str(out)!r} cannot be written: {error.strerror or error}") from None


def _prepare(download: Download, src: Path, out: Path, options: Options) -> Summary:
    plan = shards.plan(download, src)
    if out.exists() and not (out / RECORDS_MANIFEST).is_file():
        if not out.is_dir() or any(out.iterdir()):
            raise DataError(f"--out: {str(out)!r} is not empty and holds no records; give a new folder")
        out.rmdir()
    _check_same(plan, out)
    if _is_current(out, plan):
        return _summarize(out)
    partial = out.with_name(f".{out.name}.partial")
    builder = SilhouetteBuilder(
        download, staging=partial / "shards", options=options, data_dir=str(partial / "tfds")
    )
    built = Path(builder.data_dir)
    if not _is_current(built, plan):
        shutil.rmtree(built, ignore_errors=True)
        _take_over(plan, out, partial / "shards")
        config = tfds.download.DownloadConfig(manual_dir=str(src), try_download_gcs=False)
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints lines about a download of unknown size
            builder.download_and_prepare(download_config=config)
    if out.exists():
        shutil.rmtree(partial / "replaced", ignore_errors=True)
        out.replace(partial / "replaced")
    built.replace(out)
    shutil.rmtree(partial)
    return _summarize(out)


def _check_same(plan: shards.Plan, out: Path) -> None:
    """Refuses to replace records that cannot be made again from this source."""
    try:
        manifest = read_manifest(out, any_format=True)
    except DataError:  # missing or damaged, so they are made anew
        return
    planned = {sequence for job in plan.jobs for sequence in job.work}
    held = [SequenceRef(s, c, v, "") for s, c, v, _ in manifest.sequences]
    gone = [sequence for sequence in held if sequence not in planned]
    if manifest.dataset != plan.download.name or gone:
        other = manifest.dataset != plan.download.name
        kept = f"of {manifest.dataset}" if other else f"of {gone[0].key}, which is not in --src"
        raise DataError(
            f"--out: {str(out)!r} holds records {kept}; give a new folder, or delete this one first"
        )


def _take_over(plan: shards.Plan, out: Path, staging: Path) -> None:
    """Links or copies sound shards of an earlier run to the staging folder, instead of making them again."""
    if staging.exists():  # an interrupted run has done this
        return
    try:
        names = [name for name, outcome in read_log(out, plan.origin).items() if outcome.size]
        manifest = read_manifest(out)
        shards_of_files = list(zip(manifest.files, names, strict=True))
    except (DataError, ValueError):  # missing, damaged or inconsistent: all shards are made again
        return
    staging.mkdir(parents=True)
    shutil.copy2(out / JOB_LOG, staging / JOB_LOG)  # first, because shards missing later are made again
    unfit = faults(out, manifest)
    for file, name in shards_of_files:
        if file not in unfit:
            try:
                (staging / name).hardlink_to(out / file)
            except OSError:  # not on every file system
                shutil.copy2(out / file, staging / name)


def _is_current(folder: Path, plan: shards.Plan) -> bool:
    try:
        manifest = read_manifest(folder)
        check_files(folder, manifest)
    except DataError:
        return False
    return (manifest.dataset, manifest.source) == (plan.download.name, plan.stamp)


def _summarize(folder: Path) -> Summary:
    manifest = read_manifest(folder)
    frames = sum(sequence.frames for sequence in manifest.sequences)
    return Summary(len(manifest.sequences), frames, manifest.skipped_sequences, manifest.skipped_frames)
