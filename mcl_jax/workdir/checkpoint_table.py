"""Lists the checkpoints of a run: step, date, size, digest, and whether they are damaged."""

from pathlib import Path

from mcl_jax.errors import CheckpointError
from mcl_jax.utils.digest import SHORT
from mcl_jax.workdir.checkpoints import DAMAGED_FOLDER, FOLDER, Checkpoints
from mcl_jax.workdir.retention import best


def table(workdir: Path) -> str:
    """Returns the table of a run, the oldest checkpoint first.

    Raises:
        CheckpointError: if there is no run.
    """
    if not (workdir / FOLDER).is_dir():
        raise CheckpointError(f"{workdir}: has no folder {FOLDER}/; give the --workdir of a run")
    record = best(workdir)
    rows = [f"    step  saved                     size  {'digest':<{SHORT}}  state"]
    with Checkpoints(workdir) as checkpoints:
        for stored in checkpoints.survey():
            state = stored.problem or "sound"
            if stored.step == record.get("step"):
                state += f"; best by {record['figure']}, {record['value']:.4g}"
            saved, digest = f"{stored.saved:%Y-%m-%d %H:%M:%S}", f"{stored.digest[:SHORT]:<{SHORT}}"
            rows.append(f"{stored.step:8}  {saved}  {_size(stored.nbytes)}  {digest}  {state}")
    aside = workdir / DAMAGED_FOLDER
    if aside.is_dir():
        rows.append(f"damaged, moved to {aside}: {', '.join(sorted(p.name for p in aside.iterdir()))}")
    return "\n".join(rows)


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e6:8.1f} MB"
