"""Optional libraries, and the extras of the package that install them."""

import importlib.util

from mcl_jax.errors import UserError

EXTRAS: dict[str, tuple[str, ...]] = {
    "train": ("grain", "tensorboardX", "jinja2", "matplotlib"),
    "report": ("jinja2", "matplotlib"),
    "records": ("array_record", "tensorflow_datasets"),
    "export": ("onnx", "onnxruntime"),
    "network": ("onnx", "tflite"),
    "hub": ("huggingface_hub",),
    "serve": ("fastapi", "uvicorn", "python_multipart", "prometheus_client"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow", "alembic", "sqlalchemy"),
}
"""Extra of pyproject.toml → the modules that it brings."""


class MissingExtraError(UserError):
    """An optional library is not installed."""


def require_extra(extra: str, purpose: str, *modules: str) -> None:
    """Checks that optional libraries are installed.

    Args:
        extra: a key of `EXTRAS`.
        purpose: the feature that needs the libraries, for the message.
        modules: the needed modules; by default all modules of the extra.

    Raises:
        MissingExtraError: naming the first that is missing, and the command that installs it.
    """
    for module in modules or EXTRAS[extra]:
        if not _is_installed(module):
            raise MissingExtraError(f"{purpose} needs {module}: pip install 'mcl_jax[{extra}]'")


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # set to None in sys.modules
        return False
