"""The page at the root of the service: its endpoints as OpenAPI describes them, and no data of anybody."""

import html
from collections.abc import Mapping
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { background: #8882; padding: .1em .3em; border-radius: 3px; }
pre { padding: .6em; overflow-x: auto; }
h2 { margin-bottom: 0; }
:root { color-scheme: light dark; }
"""


def landing_page(openapi: Mapping[str, Any]) -> str:
    """Returns the page, without scripts and without anything from elsewhere.

    Args:
        openapi: the description that the service has at /openapi.json.
    """
    about = openapi["info"]
    sections = "".join(
        _section(method, path, operation)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(about["title"])}</title>'
        f"<style>{_STYLE}</style><h1>{_text(about['title'])}</h1><p>{_text(about['summary'])}</p>"
        '<p><strong><a href="/responsible-use">Responsible use</a></strong>: nobody should be recognised '
        "without their consent, and a person must check every answer.</p>"
        '<p>The same for programs: <a href="/openapi.json">openapi.json</a>. An answer that is not 200 has '
        f"one line, <code>error</code>.</p>{sections}</html>"
    )


def _section(method: str, path: str, operation: Mapping[str, Any]) -> str:
    settings = "".join(
        f"<li><code>{_text(each['name'])}</code>: {_text(each.get('description', ''))}</li>"
        for each in operation.get("parameters", ())
    )
    kinds = ", ".join(operation.get("requestBody", {}).get("content", ()))
    about = _text(operation.get("description", ""))
    return (
        f"<h2><code>{method.upper()} {_text(path)}</code></h2><p>{about}</p>"
        + (f"<ul>{settings}</ul>" if settings else "")
        + (f"<p>Body: {_text(kinds)}</p>" if kinds else "")
    )


def _text(text: str) -> str:
    return html.escape(text)
