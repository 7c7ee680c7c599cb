"""`mcl-jax serve`: answers over HTTP: embed, compare, identify, enroll."""

import argparse
import signal
import sys
from pathlib import Path

from mcl_jax.api import Gait
from mcl_jax.cli.commands.walk_argument import MIN_FRAMES, PACKAGED, load_model, own_thresholds
from mcl_jax.errors import ConfigError
from mcl_jax.gallery.gallery import open_gallery
from mcl_jax.gallery.store import INDEX, ModelId
from mcl_jax.utils.extras import require_extra

HELP = "answer over HTTP: embed, compare, identify and enrol walks"

EXAMPLES = """\
  mcl-jax serve --gallery G
  mcl-jax serve --gallery G --create --model runs/casiab_mcl
  MCL_JAX_KEY=$(cat key) mcl-jax serve --gallery G --address 0.0.0.0   # or --key-file key
  curl -F walk=@walk.npy http://127.0.0.1:8765/identify
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument("--gallery", required=True, metavar="G", help="folder of the gallery")
    parser.add_argument("--create", action="store_true", help="make an empty gallery if there is none")
    parser.add_argument(
        "--model",
        metavar="PATH",
        help="where the gallery's model is now, if it was moved; for a new gallery: run, checkpoint or "
        "published name (default: the model in the package)",
    )
    parser.add_argument(
        "--address",
        default="127.0.0.1",
        help="IP address to serve (127.0.0.1, this machine alone); any other needs a key",
    )
    parser.add_argument("--port", type=int, default=8765, help="port to serve (8765)")
    parser.add_argument(
        "--key-file",
        metavar="F",
        help="file with the key that requests must have (default: the environment variable MCL_JAX_KEY)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Serves until a signal ends it.

    Raises:
        UserError: for any mistake that the user can fix.
    """
    require_extra("serve", "the service")
    from mcl_jax.serving.access import read_key
    from mcl_jax.serving.application import make_application
    from mcl_jax.serving.limits import Limits
    from mcl_jax.serving.server import bind, run_until_signal
    from mcl_jax.serving.service import Service

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))  # nothing is in flight yet
    if not 0 <= arguments.port < 2**16:
        raise ConfigError(f"--port: is {arguments.port}; must be 0 to 65535")
    key, limits = read_key(arguments.key_file), Limits(min_frames=MIN_FRAMES)
    with bind(arguments.address, arguments.port, key) as listener:
        gait, model = _model_and_gallery(arguments)
        service = Service(gait.embed, model, arguments.gallery, limits)
        print(f"compiled {gait.compile_all()} programs", file=sys.stderr)
        host, port = listener.getsockname()[:2]
        place = f"http://{f'[{host}]' if ':' in host else host}:{port}"

        def ready() -> None:
            print(f"{arguments.gallery}: served at {place}; Ctrl-C ends it", flush=True)

        run_until_signal(make_application(service, key), listener, limits, ready)
        print(f"{arguments.gallery}: no longer served", flush=True)


def _model_and_gallery(arguments: argparse.Namespace) -> tuple[Gait, ModelId]:
    """Loads the gallery's model; with --create, makes the gallery if it is missing."""
    folder = Path(arguments.gallery)
    new = arguments.create and not (folder / INDEX).exists()
    path = arguments.model or (PACKAGED if new else open_gallery(folder).model.path)
    gait, model = load_model(path)
    gallery = open_gallery(folder, create=model if new else None)
    gallery.check_model(model.digest, path)
    if new and (thresholds := own_thresholds(gait)):
        gallery.calibrate(thresholds)
    return gait, model
