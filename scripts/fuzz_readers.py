"""Fuzzes a reader of untrusted files with mutated files, guided by coverage.

    python scripts/fuzz_readers.py --reader pkl --seconds 200

It stops with an error at the first input that the reader neither reads nor refuses with a UserError, that
takes over 5 s or 2 GiB, or that starts a program. The input is kept in the working directory as crash-*.
Needs the extra `fuzz`.
"""

import argparse
import io
import pickle
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mcl_jax", "pickletools", "zipfile", "numpy.lib"]):
    import numpy as np

    from mcl_jax.convert.torch_reader import read_torch_file
    from mcl_jax.data.stores import array_pickle, silhouette_pickle
    from mcl_jax.errors import CheckpointError, DataError
    from mcl_jax.evaluation.embeddings import EmbeddingSet
    from mcl_jax.utils import safe_pickle

FORBIDDEN = {"os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class"}

# A state_dict with one tensor, as PyTorch writes it.
STATE_DICT = (
    b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01X\x01\0\0\0wq\x02ctorch._utils\n_rebuild_tensor_v2\nq\x03"
    b"((X\x07\0\0\0storageq\x04ctorch\nFloatStorage\nq\x05X\x01\0\0\x000q\x06X\x03\0\0\0cpuq\x07K\x04tq\x08QK\0"
    b"K\x02K\x02\x86q\x09K\x02K\x01\x86q\n\x89h\0)Rq\x0btq\x0cRq\rs}q\x0eX\t\0\0\0_metadataq\x0fh\0)Rq\x10sb."
)


def seeds(reader: str) -> list[bytes]:
    """Returns sound files to start with; a first byte of 0 wraps the rest in a zip file."""
    frames = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 6, 5)
    if reader == "pkl":
        arrays = [frames, np.asfortranarray(frames), frames.astype(">f4")]
        return [pickle.dumps(array, protocol) for array in arrays for protocol in range(6)]
    if reader == "pt":
        return [b"\0" + STATE_DICT, b"\1" + torch_zip(STATE_DICT)]
    lone, whole = io.BytesIO(), io.BytesIO()
    np.save(lone, frames.astype(np.float32))
    labels = np.array(["1", "2", "3", "4"])
    np.savez(whole, embeddings=frames.astype(np.float32), subjects=labels, conditions=labels, views=labels)
    return [b"\0" + lone.getvalue(), b"\1" + whole.getvalue()]


def torch_zip(program: bytes) -> bytes:
    """Returns a .pt file with this data.pkl and one storage."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/data/0", bytes(16))
    return file.getvalue()


def npz(entry: bytes) -> bytes:
    """Returns an .npz file with this as its embeddings."""
    file = io.BytesIO()
    labels = io.BytesIO()
    np.save(labels, np.array(["1", "2", "3", "4"]))
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("embeddings.npy", entry)
        for name in ("subjects", "conditions", "views"):
            archive.writestr(f"{name}.npy", labels.getvalue())
    return file.getvalue()


def try_pkl(data: bytes) -> None:
    """Reads an array; the fast reader and the pickle machine must agree."""
    try:
        array = array_pickle.read_array(data)
    except array_pickle.NotAnArrayError:
        return
    short = silhouette_pickle.read_silhouettes(data)
    if short is not None:
        vocabulary = safe_pickle.Vocabulary(array_pickle._names(len(data)), array_pickle._set_state)
        assert np.array_equal(safe_pickle.load(data, vocabulary), short)
    assert array.nbytes <= len(data)


def try_file(
    path: Path, wrap: Callable[[bytes], bytes], read: Callable[[Path], object]
) -> Callable[[bytes], None]:
    """Returns a function that writes its input to a file and reads it."""

    def one(data: bytes) -> None:
        path.write_bytes(wrap(data[1:]) if data[:1] == b"\0" else data[1:])
        try:
            read(path)
        except (CheckpointError, DataError) as error:
            message = str(error)
        else:
            return
        assert message.startswith(f"{path}: "), message
        assert "\n" not in message, message

    return one


def refuse_programs(event: str, _: tuple[object, ...]) -> None:
    """Ends the run when an input makes a reader start something."""
    if event in FORBIDDEN:
        raise SystemExit(f"an input caused {event}")


def main() -> None:
    """Runs the fuzzer, which ends the process."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--reader", choices=("pkl", "pt", "npz"), required=True)
    parser.add_argument("--seconds", type=int, default=200)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds(args.reader)):
        (corpus / str(number)).write_bytes(seed)
    targets = {
        "pkl": try_pkl,
        "pt": try_file(folder / "file.pt", torch_zip, read_torch_file),
        "npz": try_file(folder / "file.npz", npz, EmbeddingSet.load),
    }
    sys.addaudithook(refuse_programs)
    options = [f"-max_total_time={args.seconds}", "-timeout=5", "-rss_limit_mb=2048", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, "-max_len=4096", str(corpus)], targets[args.reader])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
