"""Fills the HTML templates. Every value is escaped, so a subject may have any name."""

import base64
import functools
from typing import TYPE_CHECKING, Any

from mcl_jax.evaluation import colours

if TYPE_CHECKING:
    import jinja2

PREFIX = "data:image/png;base64,"


@functools.cache
def _environment() -> "jinja2.Environment":
    import jinja2  # of the extra `report`

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mcl_jax.evaluation.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["colours"] = colours
    return environment


def render(template: str, **values: Any) -> bytes:
    """Returns the content of a page; the same bytes for equal values.

    Args:
        template: a file in templates/.
        values: values for the template.
    """
    return _environment().get_template(template).render(**values).encode()


def picture(png: bytes | memoryview) -> str:
    """Returns a PNG file as a data URL."""
    return PREFIX + base64.b64encode(png).decode()
