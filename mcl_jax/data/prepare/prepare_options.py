"""Options of a preparation that do not change its result."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of a preparation.

    Attributes:
        workers: processes; 0 works in this one.
        skip_damaged: leave out files that cannot be read; otherwise they fail the run, after all the rest.
        progress: show a progress bar on stderr.
    """

    workers: int = 0
    skip_damaged: bool = False
    progress: bool = False
