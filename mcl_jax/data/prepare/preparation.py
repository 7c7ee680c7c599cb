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
    """Prepares a download, or continues an interrupted preparation.

    Complete files are kept; files that are incomplete, or whose raw frames were added, removed or renamed,
    are made again. `skipped.csv` in the output folder lists the frames and sequences left out, with reasons.

    Args:
        download: the dataset; `datasets.download_of` returns it by name.
        src: folder of the download; to make records also a pkl tree that was prepared before.
        out: folder for the result; new, or from an earlier run of the same command.
        file_format: "pkl" for a tree of OUT/subject/condition/view/view.pkl, "records" for ArrayRecord files.
        workers: number of processes; 0 works in this process. It does not change the result.
        skip_damaged: leave out files that cannot be read, instead of failing after all others are done.
        progress: show a progress bar on stderr.
        cleaning: cleaning of raw frames; None for none, as for the published runs.

    Raises:
        DataError: if the source or the output folder cannot be used, or files of the source are damaged.
    """
    if file_format not in FORMATS:
        raise DataError(f"no format {file_format!r}; there are {', '.join(FORMATS)}")
    if out.resolve().is_relative_to(src.resolve()):
        raise DataError(f"--out: {str(out)!r} is inside --src; give a folder outside --src")
    if cleaning is not None:
        layout = dataclasses.replace(download.layout, cleaning=cleaning)
        download = dataclasses.replace(download, layout=layout)
    options = Options(workers, skip_damaged, progress)
    if file_format == "pkl":
        return prepare_tree(download, src, out, options)
    require_extra("records", "--format records")
    from mcl_jax.data.prepare.records.folder import prepare_records  # TFDS takes a while to import

    return prepare_records(download, src, out, options)
