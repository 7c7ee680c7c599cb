"""Lists the checkpoints of a run: step, date, size, and whether every number in it is as it was saved."""

from pathlib import Path

from mcl_jax.errors import CheckpointError
from mcl_jax.workdir.checkpoints import DAMAGED_FOLDER, FOLDER, Checkpoints
from mcl_jax.workdir.retention import best


def table(workdir: Path) -> str:
    """Returns the table of a run, the oldest checkpoint first.

    Raises:
        CheckpointError: if there is no run.
    """
    if not (workdir / FOLDER).is_dir():
        raise CheckpointError(f"{workdir}: no folder {FOLDER}/ there; give the --workdir of a run")
    record = best(workdir)
    rows = ["    step  saved                     size  state"]
    with Checkpoints(workdir) as checkpoints:
        for stored in checkpoints.survey():
            state = stored.problem or "sound"
            if stored.step == record.get("step"):
                state += f"; best by {record['figure']}, {record['value']:.4g}"
            rows.append(f"{stored.step:8}  {stored.saved:%Y-%m-%d %H:%M:%S}  {_size(stored.nbytes)}  {state}")
    aside = workdir / DAMAGED_FOLDER
    if aside.is_dir():
        rows.append(f"set aside as damaged, in {aside}: {', '.join(sorted(p.name for p in aside.iterdir()))}")
    return "\n".join(rows)


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e6:8.1f} MB"
