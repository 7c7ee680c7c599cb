"""Tests one model on several datasets: `mcl-jax test --model M --on gait3d=ROOT --on casiab=ROOT`.

Each dataset gets its own report, and one table shows the figures of all.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from mcl_jax.cli.overrides import with_keys
from mcl_jax.config import NO_PROTOCOL, make_config, validate
from mcl_jax.data.datasets import DATASETS, OpenDataset
from mcl_jax.errors import ConfigError
from mcl_jax.evaluate import evaluate, load_embedder, open_test_data, subject_of_test
from mcl_jax.evaluation.origin import facts_of_origin
from mcl_jax.evaluation.report import without_nan
from mcl_jax.evaluation.tables import format_cross_table
from mcl_jax.ops.cpu import kernels
from mcl_jax.utils.digest import sealed
from mcl_jax.utils.files import write_atomically
from mcl_jax.utils.signatures import lookup
from mcl_jax.weights.load import is_average, load_weights, run_of
from mcl_jax.workdir.checkpoints import AVERAGE
from mcl_jax.workdir.location import check_workdir
from mcl_jax.workdir.saved_config import config_of_run, last_config
from mcl_jax.workdir.test_folder import TEST_FOLDER, require_no_other


@dataclasses.dataclass(frozen=True)
class Place:
    """A dataset to test on, as `--on` names it.

    Attributes:
        name: the name of its row and its folder.
        dataset: a key of `DATASETS`.
        root: its folder.
        partition: path of its partition JSON; "" for the dataset's own rule.
    """

    name: str
    dataset: str
    root: str
    partition: str


def places_of(texts: Sequence[str]) -> list[Place]:
    """Parses the values of `--on`: DATASET=ROOT or DATASET=ROOT,PARTITION.json.

    Raises:
        ConfigError: if a value names no dataset, or two have the same name.
    """
    places: list[Place] = []
    several = [text.partition("=")[0] for text in texts]
    for text in texts:
        dataset, sign, root = text.partition("=")
        if not sign or not root:
            raise ConfigError(f"--on: is {text!r}; expected DATASET=ROOT, or DATASET=ROOT,PARTITION.json")
        lookup("--on", DATASETS, dataset)
        partition = ""
        if root.endswith(".json") and "," in root:
            root, _, partition = root.rpartition(",")
        name = dataset if several.count(dataset) == 1 else f"{dataset}-{Path(root).name}"
        if name in [place.name for place in places]:
            raise ConfigError(f"--on: two datasets are called {name}; rename a folder")
        places.append(Place(name, dataset, root, partition))
    return places


def cross_test(model: str, places: Sequence[Place], workdir: Path | None, keys: Sequence[str]) -> Path:
    """Tests a model on several datasets; writes a report of each and one table, and prints them.

    All data are opened and checked before the first sequence is embedded.

    Args:
        model: see `load_weights`; a run is tested by its own config.
        places: the datasets.
        workdir: where to write; None for the folder of the run, or runs/NAME for a file.
        keys: config keys, `--config.a.b=v`.

    Returns:
        The folder of the results.

    Raises:
        UserError: for any mistake that the user can fix.
    """
    run, step = run_of(model)
    if workdir is None:
        workdir = run if run.is_dir() else Path("runs") / run.stem
    base = _base_config(model, run, keys)
    configs = {place.name: _config_at(place, base) for place in places}
    for config in configs.values():
        validate(config)
        check_workdir(workdir, config.data.root)
    kernels.prepare()
    datasets = {name: open_test_data(config) for name, config in configs.items()}
    of_weights = [*([] if step is None else [str(step)]), *[AVERAGE] * is_average(model)]
    names = [TEST_FOLDER, *of_weights, "on", "+".join(configs)]
    folder = workdir / "-".join(names)
    for name, config in configs.items():
        require_no_other(folder / name, subject_of_test(config, model, datasets[name]))
    _test_all(model, folder, configs, datasets)
    return folder


def _test_all(
    model: str, folder: Path, configs: Mapping[str, ConfigDict], datasets: Mapping[str, OpenDataset]
) -> None:
    embedder, arrays, source = load_embedder(next(iter(configs.values())), model)
    tests = {
        name: evaluate(config, folder / name, datasets[name], embedder, *arrays, source=source)
        for name, config in configs.items()
    }
    if jax.process_index() != 0:
        return
    summary = summary_of(tests, (last_config(source.run) or {}).get("data") if source.run.is_dir() else None)
    write_atomically(folder / "table.txt", summary["table"].encode())
    content = json.dumps(sealed(without_nan(summary)), indent=1, allow_nan=False)
    write_atomically(folder / "metrics.json", content.encode())
    print(summary["table"])
    print(f"written to {folder}/")


def summary_of(tests: Mapping[str, Mapping[str, Any]], trained: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns the metrics.json of a test on several datasets.

    Args:
        tests: name of a dataset → content of its metrics.json.
        trained: `data` block of the run's config; None if it is unknown.
    """
    first = next(iter(tests.values()))
    title = f"{first['model']['name']} on {', '.join(tests)}, in %"
    kept = ("protocol", "metric", "rerank", "counts", "notes", "scores", "data")
    summary: dict[str, Any] = {
        "model": first["model"],
        "tests": {name: {key: test[key] for key in kept if key in test} for name, test in tests.items()},
        "made": first["made"],
    }
    if trained is not None:
        summary["trained"] = {key: trained[key] for key in ("dataset", "root")}
    table = format_cross_table(title, {name: test.get("scores", {}) for name, test in tests.items()})
    notes = [f"{name}: {note}" for name, test in tests.items() for note in test.get("notes", ())]
    facts = facts_of_origin({key: summary[key] for key in ("model", "made")})
    if trained is not None:
        facts["trained on"] = f"{trained['dataset']}, {trained['root']}"
    for name, test in tests.items():
        facts[name] = f"protocol {test['protocol']}, {test['metric']}; {test['data']['root']}"
    width = max(map(len, facts))
    lines = [*notes, *[""] * bool(notes), *(f"{key:<{width}}  {value}" for key, value in facts.items())]
    return summary | {"table": table + "\n" + "\n".join(lines) + "\n"}


def _base_config(model: str, run: Path, keys: Sequence[str]) -> ConfigDict:
    """Returns a run's config, or the default config for the model in a file, with keys changed.

    Raises:
        ConfigError: if a key repeats `--on` or `--model`, or turns scoring off.
    """
    for key in keys:
        name = key.partition("=")[0].removeprefix("--config.")
        if name in ("data.dataset", "data.root", "data.partition"):
            raise ConfigError(f"{key}: --on sets it for each dataset; leave it out")
        if name in ("init_from", "eval.step"):
            raise ConfigError(f"{key}: --model sets it, such as --model RUN/checkpoints/STEP; leave it out")
    if run.is_dir() and last_config(run) is not None:
        config = config_of_run(run)
        config.init_from, config.eval.protocol, config.eval.step = "", "", 0
        config.data.format, config.data.file = "", ""  # they describe the training data
    else:
        config = make_config(model=load_weights(model).block, loss={"triplet": {}})
    config = with_keys(config, keys)
    if config.eval.protocol == NO_PROTOCOL:
        raise ConfigError("eval.protocol: is none; the table needs a protocol")
    return config


def _config_at(place: Place, base: ConfigDict) -> ConfigDict:
    """Returns the config for the test on a dataset."""
    config = base.copy_and_resolve_references()
    config.data.dataset, config.data.root = place.dataset, place.root
    config.data.partition = place.partition
    return config
