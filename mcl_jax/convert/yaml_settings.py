"""Reads the settings of an OpenGait config one by one, so that none goes unnoticed."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mcl_jax.errors import ConfigError
from mcl_jax.utils.files import read_bounded

_MAX_BYTES = 1 << 16  # of a config; OpenGait's have 4,000, and PyYAML needs a second for this size
_MAX_CHARACTERS = 1000  # of a value, because the time of Python's int() grows with their square
_MAX_NUMBER = 1e15
_MAX_DEPTH = 20  # of nested blocks and lists; OpenGait's configs have 6

# OpenGait's defaults for missing settings, from its default.yaml.
DEFAULTS: dict[str, Any] = {
    "data_cfg": {"dataset_name": "CASIA-B", "num_workers": 1, "remove_no_gallery": False, "cache": False},
    "evaluator_cfg": {
        "enable_float16": False,
        "restore_hint": 80_000,
        "eval_func": "evaluate_indoor_dataset",
        "sampler": {"batch_size": 4, "sample_type": "all_ordered", "type": "InferenceSampler"},
        "transform": [{"type": "BaseSilCuttingTransform"}],
        "metric": "euc",
        "cross_view_gallery": False,
    },
    "loss_cfg": {"loss_term_weight": 1.0, "margin": 0.2, "type": "TripletLoss", "log_prefix": "triplet"},
    "model_cfg": {"model": "Baseline"},
    "optimizer_cfg": {"lr": 0.1, "momentum": 0.9, "solver": "SGD", "weight_decay": 5e-4},
    "scheduler_cfg": {"gamma": 0.1, "milestones": [20_000, 40_000, 60_000], "scheduler": "MultiStepLR"},
    "trainer_cfg": {
        "enable_float16": True,
        "with_test": False,
        "fix_BN": False,
        "log_iter": 100,
        "restore_hint": 0,
        "save_iter": 2_000,
        "optimizer_reset": False,
        "scheduler_reset": False,
        "sync_BN": False,
        "total_iter": 80_000,
        "sampler": {
            "batch_size": [8, 16],
            "frames_num_fixed": 30,
            "frames_num_max": 50,
            "frames_num_min": 25,
            "sample_type": "fixed_unordered",
            "type": "TripletSampler",
        },
        "transform": [{"type": "BaseSilCuttingTransform"}],
    },
}

_NEEDED: Any = object()


@dataclasses.dataclass
class Settings:
    """One block of a config; each setting is taken out once.

    Attributes:
        where: the file and the block, for messages.
        values: the settings not taken out yet.
        notes: lines about settings with no effect or a different one in mcl_jax; of the whole file.
    """

    where: str
    values: dict[str, Any]
    notes: list[str]

    def take(self, key: str, kind: type | tuple[type, ...] = object, default: Any = _NEEDED) -> Any:
        """Takes out a setting.

        Raises:
            ConfigError: if it is missing and has no default, or has another type.
        """
        value = self.values.pop(key, default)
        if value is _NEEDED:
            raise ConfigError(f"{self.where}{key}: is missing")
        if isinstance(value, bool) and kind is not object and kind is not bool:
            raise self.refused(key, value, "true and false are not allowed")
        if not isinstance(value, kind) and value is not default:
            wanted = kind if isinstance(kind, type) else kind[0]
            raise self.refused(key, value, f"expected {wanted.__name__}")
        return value

    def block(self, key: str, default: Any = _NEEDED) -> "Settings":
        """Takes out a block."""
        return Settings(f"{self.where}{key}.", dict(self.take(key, dict, default)), self.notes)

    def numbers(self, key: str, count: int | None = None) -> tuple[int, ...]:
        """Takes out a list of whole numbers, of length `count` if given."""
        value = self.take(key, list)
        if any(type(number) is not int for number in value) or count not in (None, len(value)):
            raise self.refused(key, value, f"expected {count or 'a list of'} whole numbers")
        return tuple(value)

    def must_be(self, key: str, *allowed: Any, default: Any = _NEEDED) -> None:
        """Takes out a setting that must have one of the allowed values.

        Raises:
            ConfigError: if it has another value, which would change results.
        """
        value = self.take(key, object, allowed[0] if default is _NEEDED else default)
        if not any(value == each and type(value) is type(each) for each in allowed):
            supported = " or ".join(map(str, allowed))
            raise self.refused(key, value, f"it would change results, and mcl_jax supports only {supported}")

    def ignore(self, **reasons: str) -> None:
        """Takes out settings that have no effect in mcl_jax, and notes the reason for those present."""
        for key, reason in reasons.items():
            if key in self.values:
                value = self.values.pop(key)
                self.notes.append(f"{self.where.partition(': ')[2]}{key} ({_one_line(value)}): {reason}")

    def note(self, key: str, text: str) -> None:
        """Adds a note about a setting."""
        self.notes.append(f"{self.where.partition(': ')[2]}{key}: {text}")

    def refused(self, key: str, value: Any, why: str) -> ConfigError:
        """Returns an error about a value."""
        return ConfigError(f"{self.where}{key}: is {_one_line(value)}; {why}")

    def end(self) -> None:
        """Checks that all settings were taken out.

        Raises:
            ConfigError: naming the first one left, because it might change results.
        """
        for key in self.values:
            raise ConfigError(
                f"{self.where}{_one_line(key)}: is an unknown setting; remove it if it does not matter"
            )


def read_settings(path: Path) -> Settings:
    """Reads an OpenGait config, with OpenGait's defaults.

    Raises:
        ConfigError: if it is not an OpenGait config.
    """
    try:
        content = yaml.load(read_bounded(path, _MAX_BYTES), _Loader)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or type(error).__name__
        raise ConfigError(f"{path}{line}: is not valid YAML: {_one_line(problem)}") from None
    if not isinstance(content, dict) or "model_cfg" not in content:
        raise ConfigError(f"{path}: is not an OpenGait config: it has no model_cfg")
    return Settings(f"{path}: ", _merged(DEFAULTS, content), [])


def _merged(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the given values, and defaults for the others; lists are replaced as a whole."""
    merged = dict(defaults)
    for key, value in given.items():
        both = isinstance(value, dict) and isinstance(defaults.get(key), dict) and key != "loss_cfg"
        merged[key] = _merged(defaults[key], value) if both else value
    return merged


def _one_line(value: Any) -> str:
    """Returns the beginning of a value in one line without control characters."""
    text = " ".join(str(value).split())[:80]
    return text if text.isprintable() else ascii(text)


class _Loader(yaml.SafeLoader):
    """YAML loader for plain values: refuses aliases, which could expand a small file endlessly, and tags."""

    # Only the kinds of values that OpenGait's configs need; a date or "<<" remains text.
    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's name for it
        first: [
            (tag, shape) for tag, shape in kinds if tag.rpartition(":")[2] in ("bool", "int", "float", "null")
        ]
        for first, kinds in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise _refused("aliases are not allowed", event)
        if getattr(event, "tag", None) is not None:
            raise _refused(f"tags such as {event.tag} are not allowed", event)
        if self._depth == _MAX_DEPTH:
            raise _refused(f"more than {_MAX_DEPTH} nested blocks and lists", event)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        event = self.peek_event()
        if len(event.value) > _MAX_CHARACTERS:
            raise _refused(
                f"a value of {len(event.value)} characters; the maximum is {_MAX_CHARACTERS}", event
            )
        if any("\ud800" <= sign <= "\udfff" for sign in event.value):
            raise _refused("an incomplete character (half of a surrogate pair)", event)
        return super().compose_scalar_node(anchor)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        value = super().construct_object(node, deep)
        if isinstance(value, (int, float)) and not abs(value) <= _MAX_NUMBER:  # also true for NaN
            raise _refused(f"the number {node.value[:30]} is not a valid setting", node)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refused("a list or block as a key", key)
            before = seen.setdefault(key.value, value)
            if before is not value and not _same_scalar(before, value):
                raise _refused(f"{key.value!r} is given twice", key)
        return super().construct_mapping(node, deep)


def _same_scalar(first: yaml.Node, second: yaml.Node) -> bool:
    """Returns whether both are one value, not a list or block, as in some of OpenGait's own configs."""
    return all(isinstance(node, yaml.ScalarNode) for node in (first, second)) and (
        (first.tag, first.value) == (second.tag, second.value)
    )


def _refused(problem: str, place: yaml.Event | yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)
