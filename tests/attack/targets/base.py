"""Base class of the targets of an attack."""

import abc
import random
from pathlib import Path

from mutations import flipped


class Target(abc.ABC):
    """Something that is attacked.

    Attributes:
        harm_is: for the table.
        may_differ: whether another answer is no failure, as of files without a digest that anybody may write.
        mebibytes: memory that an answer may take beyond what the process has.
        seconds: of CPU time that it may take.
    """

    harm_is: str
    may_differ = False
    mebibytes = 1024
    seconds = 20

    @abc.abstractmethod
    def make(self, folder: Path) -> None:
        """Makes the unharmed thing."""

    @abc.abstractmethod
    def harm(self, folder: Path, rng: random.Random) -> str:
        """Harms a copy of it; returns how."""

    @abc.abstractmethod
    def answer(self, folder: Path) -> str:
        """Reads it, and returns all that its content decides.

        Raises:
            UserError: it cannot be used.
        """


class Stored(Target):
    """Files that mcl_jax has written itself; harm is a bit, or the loss of content, of one of them."""

    decides_nothing: tuple[str, ...] = ()
    """Names of files that decide no answer, such as pictures, as patterns."""

    def harm(self, folder: Path, rng: random.Random) -> str:
        paths = [
            path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not any(path.match(pattern) for pattern in self.decides_nothing)
        ]
        # Small files say what large ones mean, and would be hit rarely by the number of their bytes.
        path = rng.choice(paths)
        content, kind = path.read_bytes(), rng.random()
        if kind < 0.9:
            path.write_bytes(flipped(content, rng))
            how = "a bit"
        elif kind < 0.95:
            path.write_bytes(content[: rng.randrange(len(content) + 1)])
            how = "cut off"
        else:
            path.write_bytes(b"")
            how = "emptied"
        return f"{path.relative_to(folder)}: {how}"
