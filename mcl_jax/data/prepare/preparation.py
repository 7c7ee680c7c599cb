"""Prepares a whole dataset as a pkl tree or as records."""

import dataclasses
from pathlib import Path

from mcl_jax.data.prepare.cleaning import Cleaning
from mcl_jax.data.prepare.layouts import Download
from mcl_jax.data.prepare.pkl_tree import prepare_tree
from mcl_jax.data.prepare.prepare_options import Options
from mcl_jax.data.prepare.summary import Summary
from mcl_jax.errors import DataError
from mcl_jax.utils.extras import require_extra

FORMATS = ("pkl", "records")


def prepare_dataset(
    download: Download,
    src: Path,
    out: Path,
    *,
    file_format: str = "pkl",
    workers: int = 0,
    skip_damaged: bool = False,
    progress: bool = False,
    cleaning: Cleaning | None = None,
) -> Summary:
    """Prepares a download, or continues a preparation that was interrupted.

    What is complete is kept; what was cut off, or whose raw frames came, went or were renamed, is made again.
    `skipped.csv` in the output folder lists what was left out, and why.

    Args:
        download: what the source is; `datasets.download_of` knows them by name.
        src: the download, or a pkl tree that was prepared before, to make records of.
        out: folder for the result; new, or begun by the same command.
        file_format: "pkl" for a tree of OUT/subject/condition/view/view.pkl, "records" for ArrayRecord files.
        workers: processes; 0 works in this one. The result does not depend on it.
        skip_damaged: leave out files that cannot be read; otherwise they fail the run, after all the rest.
        progress: show a progress bar on stderr.
        cleaning: of raw frames; None for none, as for the published runs.

    Raises:
        DataError: if the source or the output folder cannot be used, or files of the source are damaged.
    """
    if file_format not in FORMATS:
        raise DataError(f"no format {file_format!r}; there are {', '.join(FORMATS)}")
    if out.resolve().is_relative_to(src.resolve()):
        raise DataError(f"--out: {str(out)!r} is inside --src; give a folder outside of it")
    if cleaning is not None:
        layout = dataclasses.replace(download.layout, cleaning=cleaning)
        download = dataclasses.replace(download, layout=layout)
    options = Options(workers, skip_damaged, progress)
    if file_format == "pkl":
        return prepare_tree(download, src, out, options)
    require_extra("records", "--format records")
    from mcl_jax.data.prepare.records.folder import prepare_records  # TFDS takes a while to import

    return prepare_records(download, src, out, options)
