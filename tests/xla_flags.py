"""Options of XLA's CPU compiler that the tests set, as far as the installed jaxlib knows them."""

import importlib.metadata

_VERSION = tuple(int(part) for part in importlib.metadata.version("jaxlib").split(".")[:2])


def cpu_options(*, fusion_emitters: bool, split_count: int) -> dict[str, bool | int]:
    """Returns the options for how fusions are compiled, and into how many parts a program is cut.

    From 0.11 on jaxlib compiles fusions in one way alone. It ends the process, without a word of Python's, at
    a flag that it does not know; so whether there is one has to be known before JAX is imported.
    """
    options: dict[str, bool | int] = {"xla_cpu_parallel_codegen_split_count": split_count}
    return options if _VERSION >= (0, 11) else options | {"xla_cpu_use_fusion_emitters": fusion_emitters}


def as_flags(options: dict[str, bool | int]) -> str:
    """Returns options as XLA_FLAGS has them."""
    return "".join(f" --{name}={str(value).lower()}" for name, value in options.items())
