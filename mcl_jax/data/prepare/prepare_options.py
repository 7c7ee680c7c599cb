"""Options of a preparation that do not change its result."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of a preparation.

    Attributes:
        workers: number of processes; 0 works in this process.
        skip_damaged: leave out files that cannot be read, instead of failing after all others are done.
        progress: show a progress bar on stderr.
    """

    workers: int = 0
    skip_damaged: bool = False
    progress: bool = False
