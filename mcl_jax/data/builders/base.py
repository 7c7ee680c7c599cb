"""What the builders share: raw folders in, ArrayRecord shards, metadata and a manifest out."""

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from mcl_jax.data.builders import shards
from mcl_jax.data.prepare.jobs import MANIFEST, Outcome
from mcl_jax.data.prepare.run import SKIPPED, check_damage, check_usable, summarize
from mcl_jax.data.prepare.sequences import issues_csv
from mcl_jax.data.sources import RECORDS_FORMAT, RECORDS_MANIFEST, RECORDS_SPLIT
from mcl_jax.files import write_atomically


class SilhouetteBuilder(  # type: ignore[call-arg] # skip_registration is TFDS's, untyped
    tfds.core.dataset_builder.FileReaderBuilder, skip_registration=True
):
    """Writes the sequences of a download that lies in TFDS's manual directory.

    There is one split: which subjects train and which test is the partition's to say, not the files'.

    Attributes:
        LAYOUT: how the download is laid out, a key of `mcl_jax.data.prepare.LAYOUTS`.
    """

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version.", "2.0.0": "Packed silhouettes."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "The folder the dataset was unpacked into, or a pkl tree made of it."
    LAYOUT: ClassVar[str]

    # Nothing is downloaded. TFDS would look for checksums with a package that it does not install.
    url_infos: ClassVar[None] = None

    def __init__(
        self,
        *,
        staging: Path | None = None,
        workers: int = 0,
        skip_damaged: bool = False,
        progress: bool = False,
        **kwargs: Any,
    ):
        """Takes what TFDS takes, and how to prepare.

        Args:
            staging: keeps the shards of an interrupted run for the next one; without it they are lost.
            workers: processes; 0 works in this one.
            skip_damaged: do without files that cannot be read.
            progress: show a progress bar on stderr.
            **kwargs: TFDS's, such as data_dir.
        """
        super().__init__(file_format="array_record", **kwargs)
        self._staging = staging
        self._options = shards.Options(workers, skip_damaged, progress)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self, description=type(self).__doc__, features=shards.features(), disable_shuffling=True
        )

    def _download_and_prepare(self, dl_manager: Any, download_config: Any = None) -> None:
        del download_config
        plan = shards.plan(self.LAYOUT, Path(dl_manager.manual_dir))
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
        sizes = {}
        for number, outcome in enumerate(written):
            path = Path(template.sharded_filepath(shard_index=number, num_shards=len(written)))
            (staging / outcome.name).replace(path)
            sizes[path.name] = outcome.size
        (staging / MANIFEST).replace(target / MANIFEST)  # for the next run to see what it need not do again
        if self._staging is None:
            shutil.rmtree(staging)
        split = tfds.core.SplitInfo(
            name=RECORDS_SPLIT,
            shard_lengths=[len(outcome.sequences) for outcome in written],
            num_bytes=sum(sizes.values()),
            filename_template=template,
        )
        self.info.set_splits(tfds.core.SplitDict([split]))
        self._write_manifest(target, plan.stamp, outcomes, sizes)

    def _write_manifest(
        self, folder: Path, stamp: str, outcomes: list[Outcome], sizes: dict[str, int]
    ) -> None:
        summary = summarize(outcomes)
        manifest = {
            "format": RECORDS_FORMAT,
            "dataset": self.LAYOUT,
            "source": stamp,
            "skipped_sequences": summary.skipped_sequences,
            "skipped_frames": summary.skipped_frames,
            "files": sizes,
            "sequences": [sequence for outcome in outcomes for sequence in outcome.sequences],
        }
        content = json.dumps(manifest, separators=(",", ":"))
        write_atomically(folder / RECORDS_MANIFEST, content.encode())
