"""Record of a reproduction, as JSON and as Markdown, for users to send in."""

import datetime
import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

import mcl_jax
from mcl_jax.errors import DataError
from mcl_jax.utils.digest import DigestError, check_seal, sealed
from mcl_jax.utils.files import read_bounded, write_atomically

JSON, MARKDOWN = "reproduction.json", "reproduction.md"

_FORMAT = 1
_MAX_BYTES = 2**22
_LIBRARIES = ("jax", "jaxlib", "flax", "numpy", "opencv-python-headless")
_TEXTS = ("name", "verdict", "date")
_NUMBER = (int, float, type(None))


def surroundings() -> dict[str, Any]:
    """Returns versions, device and date, without names or paths of the machine."""
    versions = {"mcl_jax": mcl_jax.__version__, "python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:  # OpenCV has several names
            continue
    return {
        "versions": versions,
        "device": [jax.local_device_count(), jax.local_devices()[0].device_kind, platform.machine()],
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Writes both files; the JSON has a digest of itself.

    Raises:
        UserError: if a file cannot be written.
    """
    whole = {"format": _FORMAT, **record}
    write_atomically(folder / JSON, json.dumps(sealed(whole), indent=1, allow_nan=False).encode())
    write_atomically(folder / MARKDOWN, as_markdown(whole).encode())


def read_record(path: Path) -> dict[str, Any]:
    """Reads the record of a reproduction, which may come from anybody.

    Raises:
        DataError: if it is not such a record, or damaged.
    """
    try:
        record: dict[str, Any] = json.loads(read_bounded(path, _MAX_BYTES))
        sound = check_seal(record) and record["format"] == _FORMAT
        sound &= all(isinstance(record[key], str) for key in _TEXTS)
        sound &= all(
            isinstance(row[key], str) for row in record["figures"] for key in ("group", "figure")
        ) and all(
            isinstance(row[key], _NUMBER)
            for row in record["figures"]
            for key in ("published", "measured", "difference")
        )
        sound &= isinstance(record["weights"]["trained_here"], bool) and isinstance(record["device"], list)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except DigestError as error:
        raise DataError(f"{path}: damaged or changed: {error}; ask for it again") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise DataError(f"{path}: is not a record of a reproduction")
    return record


def as_markdown(record: Mapping[str, Any]) -> str:
    """Returns a record as a Markdown page."""
    weights, dataset = record["weights"], record["dataset"]
    lines = [
        f"# {record['name']}",
        "",
        record["verdict"],
        "",
        *figures_table(record["figures"]),
        "",
        *(f"- usual reason: {reason}" for reason in record["reasons"]),
        *([""] if record["reasons"] else []),
        "| | |",
        "|---|---|",
        f"| weights | {weights['source']}, {weights['model']}, step {weights['step']:,} |",
        f"| SHA-256 of the file | {weights['file_sha256'] or '-'} |",
        f"| digest of the model | {weights['digest']} |",
        f"| protocol | {record['protocol']}, distance {record['metric']} |",
        *(f"| dataset {dataset['name']} | {line} |" for line in dataset["findings"]),
        f"| frames | {dataset['frames']} |",
        f"| counts | {', '.join(f'{key} {value}' for key, value in record['counts'].items())} |",
        f"| settings | {', '.join(f'{key} {value}' for key, value in record['settings'].items())} |",
        f"| versions | {', '.join(f'{key} {value}' for key, value in record['versions'].items())} |",
        f"| device | {' × '.join(map(str, record['device'][:2]))}, {record['device'][2]} |",
        f"| time | {record['seconds']:,} s since the last start |",
        f"| date | {record['date']} |",
    ]
    return "\n".join(lines) + "\n"


def figures_table(figures: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the lines of a Markdown table with the published and measured figures and their difference."""
    lines = ["| in % | published | measured | difference |", "|---|---|---|---|"]
    for row in figures:
        measured = "-" if row["measured"] is None else f"{row['measured']:.2f}"
        difference = "-" if row["difference"] is None else f"{row['difference']:+.2f}"
        lines.append(f"| {row['group']} {row['figure']} | {row['published']} | {measured} | {difference} |")
    return lines
