"""The model card of a trained model, made from its run."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mcl_jax.errors import ConfigError
from mcl_jax.models.registry import Weights
from mcl_jax.utils.files import read_bounded
from mcl_jax.utils.pytrees import count_numbers, flat_keys
from mcl_jax.utils.terminal import printable

CARD = "README.md"

_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}")
_MAX_BYTES = 2**20
_FRONT = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)

_HEADER = "library_name: mcl_jax\ntags:\n- gait-recognition\n- biometrics\n- jax\n"
_NO_LICENCE = (
    "To be filled in, here and in `license:` above, before this is shared. The dataset's terms bind it."
)
_RESPONSIBLE = """\
Gait can identify people from afar, without their knowledge. Use this model only on people who agreed, for a
purpose they know. Never use it to identify or follow anybody in public space, to support a suspicion, or
where a wrong answer affects a person. Its errors on other people, clothes, cameras and places than those of
the test are not known, nor how they differ between groups of people. An embedding is personal data. The terms
of the dataset hold for what was trained on it, too.
"""


@dataclasses.dataclass(frozen=True)
class Card:
    """Content of a model card.

    Attributes:
        weights: the model.
        parts: of an embedding.
        channels: of each part.
        digest: of the model, as `Gait.digest`.
        metrics: of its test, as in metrics.json; {} where it was not tested.
        licence: an identifier such as "mit"; "" to be filled in.
    """

    weights: Weights
    parts: int
    channels: int
    digest: str
    metrics: Mapping[str, Any]
    licence: str = ""

    def text(self) -> str:
        """Returns the card as Markdown, with the header that the Hub reads.

        Raises:
            ConfigError: if the licence is no identifier.
        """
        if self.licence and not _LICENCE.fullmatch(self.licence):
            raise ConfigError(
                f"licence: {self.licence!r} is no identifier; give one such as mit, cc-by-nc-4.0 or other"
            )
        recipe, block = self.weights.recipe, self.weights.block
        dataset = recipe.get("data", {}).get("dataset", "")
        title = f"{block['name']}, trained on {dataset}" if dataset else str(block["name"])
        parts = [
            f"---\nlicense: {self.licence}\n{_HEADER}---",
            f"# {title}",
            self._facts(dataset),
            '```python\nimport mcl_jax\n\ngait = mcl_jax.load("hf://OWNER/REPO")  # or this folder\n'
            'x = gait.embed(["walks/a", "walks/b"])  # pkl files or folders of silhouettes\n```',
            "## Figures",
            self._figures(),
            "## Licence",
            f"`{self.licence}`." if self.licence else _NO_LICENCE,
            "## Responsible use",
            _RESPONSIBLE.rstrip(),
        ]
        if recipe:
            rows = "\n".join(f"{key} = {value!r}" for key, value in flat_keys(recipe).items())
            parts += ["## Recipe", f"```\n{rows}\n```"]
        return printable("\n\n".join(parts)) + "\n"

    def _facts(self, dataset: str) -> str:
        block = self.weights.block
        sizes = ", ".join(f"{key} {value}" for key, value in block.items() if key != "name")
        losses = ", ".join(self.weights.recipe.get("loss", {}))
        rows = {
            "model": f"{block['name']} ({sizes})",
            "parameters": f"{count_numbers(self.weights.params):,}",
            "embedding": f"{self.parts} parts × {self.channels} channels",
            "trained": f"{self.weights.step:,} steps" + (f" on {dataset}" if dataset else ""),
            "losses": losses or "not known",
            "digest": f"`{self.digest}`",
        }
        return "| | |\n|---|---|\n" + "\n".join(f"| {key} | {value} |" for key, value in rows.items())

    def _figures(self) -> str:
        scores: Mapping[str, Mapping[str, float]] = self.metrics.get("scores") or {}
        if not scores:
            return "Not measured."
        names = list(next(iter(scores.values())))
        counts = self.metrics["counts"]
        lines = ["| in % | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        for group, figures in scores.items():
            cells = ("-" if figures[name] is None else f"{figures[name]:.2f}" for name in names)
            lines.append(f"| {group} | " + " | ".join(cells) + " |")
        probes = sum(counts["probes"].values())
        lines += [
            "",
            f"Protocol `{self.metrics['protocol']}`, distance `{self.metrics['metric']}`: "
            f"{probes:,} probes against {counts['gallery']:,} gallery sequences.",
            *self.metrics.get("notes", []),
        ]
        return "\n".join(lines)


def licence_of(card: Path) -> str:
    """Returns the licence that a card names; "" where it is not filled in.

    Raises:
        ConfigError: if the card cannot be read.
    """
    try:
        front = _FRONT.match(read_bounded(card, _MAX_BYTES).decode())
        header = yaml.safe_load(front[1]) if front else {}
        licence = header.get("license") if isinstance(header, dict) else ""
    except OSError as error:
        raise ConfigError(f"{card}: cannot be read: {error.strerror}") from None
    except (UnicodeError, yaml.YAMLError, RecursionError):
        raise ConfigError(f"{card}: its header between the two lines --- is no YAML") from None
    return licence if isinstance(licence, str) else ""
