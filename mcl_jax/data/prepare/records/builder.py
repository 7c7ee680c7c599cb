"""TFDS builder for any dataset: turns raw folders into ArrayRecord files, TFDS's metadata and a manifest."""

import shutil
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from mcl_jax.data.prepare.issues import SKIPPED, issues_csv
from mcl_jax.data.prepare.layouts import Download
from mcl_jax.data.prepare.prepare_options import Options
from mcl_jax.data.prepare.records import shards
from mcl_jax.data.prepare.summary import check_damage, check_usable, summarize
from mcl_jax.data.stores.job_log import JOB_LOG
from mcl_jax.data.stores.manifest import RECORDS_SPLIT, RecordsManifest, sample_of, write_manifest
from mcl_jax.utils.files import write_atomically


class SilhouetteBuilder(  # type: ignore[call-arg] # skip_registration is TFDS's, untyped
    tfds.core.dataset_builder.FileReaderBuilder, skip_registration=True
):
    """Writes the sequences of a download in TFDS's manual directory.

    One class serves all datasets: each instance has the name and the layout of its download.
    """

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version.", "2.0.0": "Packed silhouettes."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "The folder the dataset was unpacked into, or a pkl tree made of it."

    # Nothing is downloaded; without this, TFDS would look for checksums with a package it does not install.
    url_infos: ClassVar[None] = None

    def __init__(
        self,
        download: Download,
        *,
        staging: Path | None = None,
        options: Options | None = None,
        **kwargs: Any,
    ):
        """Takes the download, options, and TFDS's own arguments.

        Args:
            download: the dataset in the manual directory.
            staging: folder that keeps the shards of an interrupted run for the next; None loses them.
            options: options of the preparation.
            **kwargs: arguments of TFDS, such as data_dir.
        """
        self.name = download.name  # before TFDS derives paths from it
        self._download, self._staging = download, staging
        self._options = options or Options()
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self._download.description,
            features=shards.features(),
            disable_shuffling=True,
        )

    def _download_and_prepare(self, dl_manager: Any, download_config: Any = None) -> None:
        del download_config
        plan = shards.plan(self._download, Path(dl_manager.manual_dir))
        target = Path(self.data_path)
        staging = self._staging or target / "staging"
        outcomes = shards.write(plan, staging, self._options)
        table = staging.parent / SKIPPED
        write_atomically(table, issues_csv(issue for o in outcomes for issue in o.issues))
        check_damage(outcomes, table)
        check_usable(outcomes, Path(dl_manager.manual_dir), table)
        table.replace(target / SKIPPED)

        written = [outcome for outcome in outcomes if outcome.size > 0]
        template = self._get_filename_template(RECORDS_SPLIT)
        sizes, samples = {}, {}
        for number, outcome in enumerate(written):
            path = Path(template.sharded_filepath(shard_index=number, num_shards=len(written)))
            (staging / outcome.name).replace(path)
            sizes[path.name], samples[path.name] = outcome.size, sample_of(path)
        (staging / JOB_LOG).replace(target / JOB_LOG)  # tells the next run which shards are done
        if self._staging is None:
            shutil.rmtree(staging)
        split = tfds.core.SplitInfo(
            name=RECORDS_SPLIT,
            shard_lengths=[len(outcome.sequences) for outcome in written],
            num_bytes=sum(sizes.values()),
            filename_template=template,
        )
        self.info.set_splits(tfds.core.SplitDict([split]))
        summary = summarize(outcomes)
        manifest = RecordsManifest(
            dataset=self._download.name,
            source=plan.stamp,
            skipped_sequences=summary.skipped_sequences,
            skipped_frames=summary.skipped_frames,
            files=sizes,
            sequences=tuple(sequence for outcome in outcomes for sequence in outcome.sequences),
            samples=samples,
            checksums=tuple(checksum for outcome in outcomes for checksum in outcome.checksums),
        )
        write_manifest(target, manifest)
