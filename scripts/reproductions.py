"""Makes docs/reproductions.md from the records in docs/reproductions/.

python scripts/reproductions.py
"""

from pathlib import Path

from mcl_jax.reproduction.page import page
from mcl_jax.reproduction.record import read_record
from mcl_jax.utils.files import write_atomically

DOCS = Path(__file__).resolve().parents[1] / "docs"


def text() -> str:
    """Returns the page.

    Raises:
        DataError: if a record is damaged.
    """
    return page([read_record(path) for path in sorted((DOCS / "reproductions").glob("*.json"))])


if __name__ == "__main__":
    write_atomically(DOCS / "reproductions.md", text().encode())
