"""Translates OpenGait's YAML configs of the models in `convert.opengait`.

Every setting is either translated, or listed in a note if it has no effect in mcl_jax, or refused if it would
change results and mcl_jax has no equivalent. Unknown settings are refused too.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from mcl_jax.config import make_config
from mcl_jax.convert.opengait import COUNTERPARTS, MISSING
from mcl_jax.convert.opengait.pieces import Counterpart
from mcl_jax.convert.yaml_settings import Settings, read_settings
from mcl_jax.data.datasets import DATASETS
from mcl_jax.data.feed.augment import CUT_COLUMNS
from mcl_jax.data.feed.sampling import MAX_TEST_FRAMES
from mcl_jax.errors import ConfigError
from mcl_jax.evaluation.protocols import PROTOCOLS
from mcl_jax.models.registry import complete_block, model_class

SUFFIXES = (".yaml", ".yml")

_DATASETS = {
    **{"CASIA-B": "casiab", "GREW": "grew", "Gait3D": "gait3d", "OUMVLP": "oumvlp", "CASIA-E": "casiae"},
    **{"CCPG": "ccpg", "SUSTech1K": "sustech1k", "CCGR-MINI": "ccgr_mini", "HID": "hid"},
    **{"FreeGait": "freegait", "Gait3D-Parsing": "gait3d_parsing"},
}
_INDOORS = ("casiab", "oumvlp", "casiae", "sustech1k")
_HID = "HID_submission"
_HID_FRAMES = ("hid", "hid_128")  # one dataset in OpenGait; its model tells which frames it has
_PROTOCOLS = {
    "evaluate_indoor_dataset": _INDOORS,
    "identification": _INDOORS,
    "evaluate_CCPG": ("ccpg",),
    "evaluate_CCGR_MINI": ("ccgr_mini",),
    "evaluate_FreeGait": ("freegait",),
    _HID: ("hid",),
    "evaluate_Gait3D": ("gait3d", "gait3d_parsing"),
    "GREW_submission": ("grew",),
    "identification_GREW_submission": ("grew",),
}
_NO_ROOT = "your_path"  # placeholder in OpenGait's files
# Transform → its setting → (parameter in mcl_jax, default).
_PARAMETERS: dict[str, dict[str, tuple[str, Any]]] = {
    "RandomRotate": {"degree": ("degree", 10.0)},
    "RandomErasing": {
        "sl": ("min_area", 0.05),
        "sh": ("max_area", 0.2),
        "r1": ("aspect", 0.3),
        "per_frame": ("per_frame", False),
    },
}
_CUTS_MAPS = "BaseParsingCuttingTransform"
_NAMES = {
    "RandomPerspective": "perspective",
    "BaseSilCuttingTransform": "cut",
    "BaseSilTransform": "cut",
    _CUTS_MAPS: "cut",
    "RandomHorizontalFlip": "flip",
    "RandomRotate": "rotate",
    "RandomAffine": "affine",
    "RandomErasing": "erase",
}


@dataclasses.dataclass(frozen=True)
class Translation:
    """A translated config, with notes about settings that differ or have no effect."""

    config: ConfigDict
    notes: tuple[str, ...]


def translate(path: str | Path) -> Translation:
    """Translates an OpenGait config.

    Raises:
        ConfigError: if it is not such a config, or a setting would change results and has no equivalent.
    """
    settings = read_settings(Path(path))
    name = _known_model(settings)
    data = _data(settings.block("data_cfg"))
    trainer = settings.block("trainer_cfg")
    steps = trainer.take("total_iter", int)
    data["augment"] = _augment(trainer, _transforms(trainer, data["dataset"]))
    data["sampling"], batch = _sampling(trainer.block("sampler"))
    evaluation = _evaluation(settings.block("evaluator_cfg"), data["dataset"], steps)
    counterpart = COUNTERPARTS[name]
    model_cfg = settings.block("model_cfg")
    model_cfg.take("model")
    rates = counterpart.rates(model_cfg)
    model = {"name": name, **counterpart.block(model_cfg, _there(data["dataset"]))}
    model_cfg.end()
    data["dataset"] = _with_frames_of(model, data["dataset"])
    blocks: dict[str, Any] = {
        "data": data,
        "eval": evaluation,
        "loss": _losses(settings),
        "model": model,
        "optimizer": _optimizer(settings.block("optimizer_cfg"), counterpart, rates),
        "schedule": _schedule(settings.block("scheduler_cfg")),
    }
    if counterpart.own_schedule:
        blocks["schedule"] = _own_schedule(trainer, blocks["schedule"]["milestones"], steps)
    train, init_from = _train(trainer, own_schedule=counterpart.own_schedule)
    if evaluation["step"]:
        train["keep_every"] = evaluation["step"]  # OpenGait keeps every checkpoint
    blocks["train"] = {"steps": steps, "batch": batch, **train}
    settings.end()
    return Translation(make_config(init_from=init_from, **blocks), tuple(settings.notes))


def _data(data: Settings) -> dict[str, Any]:
    name = data.take("dataset_name", str)
    if name not in _DATASETS:
        raise data.refused("dataset_name", name, f"mcl_jax has {', '.join(_DATASETS)}")
    data.must_be("test_dataset_name", name)
    data.must_be("remove_no_gallery", False)
    file = _file(data)
    data.ignore(cache="sequences are read when they are needed")
    root = data.take("dataset_root", str, _NO_ROOT)
    partition = data.take("dataset_partition", str, "")
    # os.path, because pathlib raises OSError for names that no file can have.
    if DATASETS[_DATASETS[name]].partition is not None and not os.path.isfile(partition):  # noqa: PTH113
        data.note("dataset_partition", f"there is no file {partition!r:.80}; {name}'s own split is built in")
        partition = ""
    workers = data.take("num_workers", int)
    data.end()
    return {
        "dataset": _DATASETS[name],
        "root": "" if root == _NO_ROOT else root,
        "file": file,
        "partition": partition,
        "workers": workers,
    }


def _file(data: Settings) -> str:
    """Returns the number of a sequence's pkl file, as text; "" if the config does not choose one."""
    used = data.take("data_in_use", list, None)
    if used is None:
        return ""
    chosen = [number for number, use in enumerate(used, start=1) if use is True]
    if len(chosen) != 1 or not all(isinstance(use, bool) for use in used):
        raise data.refused("data_in_use", used, "mcl_jax reads exactly one file of a sequence")
    return str(chosen[0])


def _evaluation(evaluator: Settings, dataset: str, steps: int) -> dict[str, Any]:
    function = evaluator.take("eval_func", str)
    if dataset not in _PROTOCOLS.get(function, ()):
        raise evaluator.refused("eval_func", function, f"mcl_jax has no such evaluation for {dataset}")
    protocol = DATASETS[dataset].protocol
    if evaluator.take("cross_view_gallery", bool):
        protocol = f"{dataset}_cross_view"
        if protocol not in PROTOCOLS:
            raise evaluator.refused("cross_view_gallery", True, "mcl_jax has it for CASIA-B and OU-MVLP only")
    rerank = evaluator.take("rerank", bool, function == _HID)
    if rerank and function != _HID:
        raise evaluator.refused("rerank", rerank, f"OpenGait re-ranks in {_HID} only")
    hint = evaluator.take("restore_hint", (int, str))
    if isinstance(hint, str):
        raise evaluator.refused("restore_hint", hint, "give it as --config.init_from, with mcl-jax test")
    step = hint if 0 <= hint < steps else 0
    if hint > steps:
        evaluator.note(
            "restore_hint", f"{hint}: not used; the newest checkpoint is tested, in the end that of {steps}"
        )
    if evaluator.take("enable_float16", bool):
        evaluator.note("enable_float16", "same on GPUs; on CPUs float32, unless eval.precision is set")
    sampler = evaluator.block("sampler")
    sampler.must_be("sample_type", "all_ordered")
    if "frames_all_limit" not in sampler.values:
        sampler.note(
            "frames_all_limit", f"is missing: mcl_jax uses {MAX_TEST_FRAMES} frames, OpenGait uses all"
        )
    max_frames = sampler.take("frames_all_limit", int, MAX_TEST_FRAMES)
    if max_frames < 1:
        raise sampler.refused("frames_all_limit", max_frames, "expected a number of frames, at least 1")
    packs = "any number of sequences is packed into a test batch"
    sampler.ignore(batch_size=packs, type=packs, batch_shuffle="the order of a test does not matter")
    sampler.end()
    if _augment(evaluator, _transforms(evaluator, dataset)) != (("cut", 1.0),):
        raise ConfigError(f"{evaluator.where}transform: mcl_jax tests on cut frames only")
    evaluator.ignore(restore_ckpt_strict="always strict", save_name="--workdir names the run")
    metric = evaluator.take("metric", str)
    evaluator.end()
    return {
        **{"metric": metric, "protocol": protocol, "step": step, "max_frames": max_frames},
        "rerank": rerank,
    }


def _transforms(block: Settings, dataset: str) -> list[Settings]:
    """Takes out the list of transforms; a Compose is replaced by the transforms in it."""
    given = block.take("transform", list)
    if len(given) == 1 and isinstance(given[0], dict) and given[0].get("type") == "Compose":
        compose = Settings(f"{block.where}transform.", dict(given[0]), block.notes)
        compose.take("type")
        given = compose.take("trf_cfg", list)
        compose.end()
    elif len(given) != 1:
        raise block.refused("transform", given, "expected one transform, or one Compose, for silhouettes")
    if not all(isinstance(one, dict) for one in given):
        raise block.refused("transform", given, "expected a list of transforms with their types")
    transforms = [Settings(f"{block.where}transform.", dict(one), block.notes) for one in given]
    for one in transforms:
        _check_cut(one, dataset)
    return transforms


def _check_cut(transform: Settings, dataset: str) -> None:
    """Refuses a cut for maps of silhouettes or the other way round, and one that does not suit HID."""
    kind, maps = transform.values.get("type"), DATASETS[dataset].pixels.labels
    if _NAMES.get(str(kind)) == "cut" and (kind == _CUTS_MAPS) != maps:
        there = "parsing maps" if maps else "silhouettes"
        raise transform.refused("type", kind, f"would change the numbers, and {dataset} has {there}")
    cutting = transform.values.get("cutting")
    if dataset in _HID_FRAMES and cutting is not None:
        raise transform.refused("cutting", cutting, "frames of 128 columns need 20: remove it")


def _augment(block: Settings, transforms: list[Settings]) -> tuple[tuple[Any, ...], ...]:
    entries = []
    for one in transforms:
        kind = one.take("type", str)
        if kind not in _NAMES:
            raise one.refused("type", kind, f"mcl_jax has {', '.join(_NAMES)}")
        one.where += f"{kind}."
        probability = 1.0
        if _NAMES[kind] == "cut":
            one.must_be("divsor", 255.0, 255)
            one.must_be(*("cutting", None, CUT_COLUMNS) if "Cutting" in kind else ("img_shape", None))
            if kind == "BaseSilTransform":
                one.notes.append(f"{kind}: here frames of width 64 are cut to 44, and those of 44 are kept")
            one.ignore(img_w="OpenGait does not read it", p="OpenGait does not read it")
        else:
            probability = float(one.take("prob", (float, int), 0.5))
        if kind == "RandomAffine":
            one.ignore(degree="OpenGait does not read it")
        parameters = {}
        for key, (parameter, default) in _PARAMETERS.get(kind, {}).items():
            value = one.take(key, bool if isinstance(default, bool) else (float, int), default)
            if value != default:
                parameters[parameter] = value if isinstance(default, bool) else float(value)
        one.end()
        entries.append((_NAMES[kind], probability, *([parameters] if parameters else [])))
    return tuple(entries)


def _sampling(sampler: Settings) -> tuple[dict[str, Any], tuple[int, ...]]:
    sampler.must_be("type", "TripletSampler")
    sampler.ignore(batch_shuffle="batches are drawn at random in any case")
    batch = sampler.numbers("batch_size", 2)
    mode = sampler.take("sample_type", str)
    frames, minimum, maximum = (sampler.take(f"frames_num_{end}", int) for end in ("fixed", "min", "max"))
    skip = sampler.take("frames_skip_num", int, None)
    sampling: dict[str, Any] = {"mode": mode}
    if mode == "unfixed_unordered":
        sampling |= {"min_frames": minimum, "max_frames": maximum}
    elif mode in ("fixed_unordered", "fixed_ordered"):
        sampling["frames"] = frames
    else:
        raise sampler.refused(
            "sample_type", mode, "mcl_jax has fixed_unordered, unfixed_unordered and fixed_ordered"
        )
    if mode == "fixed_ordered":
        if skip is None:
            raise ConfigError(f"{sampler.where}frames_skip_num: is missing, but fixed_ordered needs it")
        sampling["skip"] = skip
    sampler.end()
    return sampling, batch


def _triplet(loss: Settings) -> dict[str, Any]:
    return {"margin": float(loss.take("margin", (float, int), 0.2))}


def _cross_entropy(loss: Settings) -> dict[str, Any]:
    smooths = loss.take("label_smooth", bool, True)
    smoothing = float(loss.take("eps", (float, int), 0.1))
    loss.ignore(log_accuracy="the accuracy is always logged")
    return {
        "scale": float(loss.take("scale", (float, int), 16)),
        "label_smoothing": smoothing if smooths else 0.0,
    }


def _mcl(loss: Settings) -> dict[str, Any]:
    return _triplet(loss) | {"gamma": float(loss.take("gamma", (float, int)))}


_LOSSES: dict[str, tuple[str, Callable[[Settings], dict[str, Any]]]] = {
    "TripletLoss": ("triplet", _triplet),
    "CrossEntropyLoss": ("cross_entropy", _cross_entropy),
    "MCL": ("mcl", _mcl),
}


def _losses(settings: Settings) -> dict[str, dict[str, Any]]:
    given = settings.take("loss_cfg", (list, dict))
    losses: dict[str, dict[str, Any]] = {}
    for one in [given] if isinstance(given, dict) else given:
        if not isinstance(one, dict):
            raise settings.refused("loss_cfg", given, "expected losses with their types")
        loss = Settings(f"{settings.where}loss_cfg.", dict(one), settings.notes)
        kind = loss.take("type", str)
        if kind not in _LOSSES:
            raise loss.refused("type", kind, f"mcl_jax has {', '.join(_LOSSES)}")
        name, read = _LOSSES[kind]
        if name in losses:
            raise loss.refused("type", kind, "it occurs twice")
        weight = float(loss.take("loss_term_weight", (float, int), 1.0))
        losses[name] = {"weight": weight, **read(loss)}
        loss.ignore(log_prefix="losses are logged under their own names")
        loss.end()
    return losses


def _known_model(settings: Settings) -> str:
    """Returns our name of the model.

    Raises:
        ConfigError: if there is no such model here, so that no other setting matters.
    """
    model = dataclasses.replace(settings, values=dict(settings.values)).block("model_cfg")
    name = model.take("model", str)
    keys = {counterpart.title: key for key, counterpart in COUNTERPARTS.items()}
    if name not in keys:
        raise model.refused("model", name, MISSING.get(name, f"mcl_jax has {', '.join(keys)}"))
    return keys[name]


def _with_frames_of(model: Mapping[str, Any], dataset: str) -> str:
    """Returns the dataset, HID with the frames that the model takes; other datasets have one kind of them."""
    taken = model_class(model["name"]).frame_shape(complete_block(model))
    names = _HID_FRAMES if dataset in _HID_FRAMES else (dataset,)
    return next((name for name in names if DATASETS[name].pixels.frame_shape == taken), dataset)


def _there(dataset: str) -> str:
    """Returns OpenGait's name of a dataset."""
    return {ours: theirs for theirs, ours in _DATASETS.items()}[dataset]


def _optimizer(optimizer: Settings, counterpart: Counterpart, rates: Mapping[str, float]) -> dict[str, Any]:
    solver = optimizer.take("solver", str)
    if solver not in ("SGD", "Adam", "AdamW"):
        raise optimizer.refused("solver", solver, "mcl_jax has SGD, Adam and AdamW")
    block: dict[str, Any] = {"name": solver.lower()}
    for key in ("lr", "weight_decay"):
        block[key] = float(optimizer.take(key, (float, int)))
    if solver == "SGD":
        block["momentum"] = float(optimizer.take("momentum", (float, int)))
    if rates and not block["lr"]:
        raise optimizer.refused("lr", 0, "the rates of the backbone become shares of it")
    if groups := (
        *((name, round(rate / block["lr"], 12), 1.0) for name, rate in rates.items()),
        *counterpart.groups,
    ):
        block["groups"] = groups
    optimizer.ignore(momentum="Adam has no momentum, also in OpenGait")
    optimizer.end()
    return block


def _schedule(schedule: Settings) -> dict[str, Any]:
    schedule.must_be("scheduler", "MultiStepLR")
    milestones = schedule.numbers("milestones")
    gamma = float(schedule.take("gamma", (float, int)))
    schedule.end()
    return {"name": "multi_step", "milestones": milestones, "gamma": gamma}


def _own_schedule(trainer: Settings, milestones: tuple[int, ...], steps: int) -> dict[str, Any]:
    """Returns the schedule of a model that sets its learning rates itself; refuses milestones in the run."""
    if any(milestone < steps for milestone in milestones):
        raise trainer.refused(
            "total_iter",
            steps,
            f"this model has a cosine schedule; the milestones {milestones} would change it",
        )
    return {"name": "stepped_cosine", "steps": trainer.take("T_max_iter", int)}


def _train(trainer: Settings, *, own_schedule: bool) -> tuple[dict[str, Any], str]:
    """Returns the `train` block without steps and batch, and `init_from`."""
    half = trainer.take("enable_float16", bool)
    if half:
        trainer.note("enable_float16", "bfloat16 is used instead; it needs no loss scaling")
    hint = trainer.take("restore_hint", (int, str))
    resets = [trainer.take(f"{name}_reset", bool) for name in ("optimizer", "scheduler")]
    # For a model that sets its learning rates itself, the position of the scheduler does not matter.
    if isinstance(hint, str) and not (resets[0] and (resets[1] or own_schedule)):
        raise trainer.refused(
            "restore_hint",
            hint,
            "to continue with its optimiser state, use mcl-jax convert --with-optimizer; to start "
            "from its weights, set optimizer_reset and scheduler_reset",
        )
    if isinstance(hint, int) and hint:
        raise trainer.refused("restore_hint", hint, "a run always continues from its newest checkpoint")
    save_every = trainer.take("save_iter", int)
    partly = not trainer.take("restore_ckpt_strict", bool, True)
    trainer.ignore(
        sync_BN="statistics are those of the whole batch, or with train.accumulate those of a chunk",
        save_name="--workdir names the run",
        find_unused_parameters="not needed in JAX",
    )
    train = {
        "precision": "bfloat16" if half else "float32",
        "freeze_batch_norm": trainer.take("fix_BN", bool),
        "log_every": trainer.take("log_iter", int),
        "save_every": save_every,
        "test_every": save_every if trainer.take("with_test", bool) else 0,
    }
    if partly and isinstance(hint, str):
        train |= {"fit_partly": True, "keep_classifier": True}
        trainer.note(
            "restore_ckpt_strict", "tensors of restore_hint that fit are used, including the classifier"
        )
    trainer.end()
    return train, hint if isinstance(hint, str) else ""
