import copy
import dataclasses

import jax
import numpy as np
import optax
import pytest
from torch_reference import Optimizer
from toys import TOYS

from mcl_jax.convert.importer import TorchCheckpoint, import_state_dict
from mcl_jax.convert.mapping import put_together
from mcl_jax.convert.opengait import COUNTERPARTS, entries
from mcl_jax.convert.optimizer import compare_recipe, import_optimizer, schedule_position
from mcl_jax.errors import CheckpointError
from mcl_jax.training.optimizers import OPTIMIZERS, multi_step
from mcl_jax.utils.pytrees import get_leaf, replace_leaves

SETTINGS = {"sgd": Optimizer("sgd", milestones=(2, 8)), "adam": Optimizer("adam", lr=0.01, milestones=(2, 8))}


def checkpoint_of(trainer):
    content = copy.deepcopy(trainer.checkpoint())
    numbered = content["optimizer"]["state"].items()
    content["optimizer"]["state"] = {
        number: {key: value.numpy() for key, value in state.items()} for number, state in numbered
    }
    state_dict = {name: tensor.numpy() for name, tensor in content["model"].items()}
    return TorchCheckpoint(state_dict, content["optimizer"], content["scheduler"], content["iteration"], "")


def fresh(toy, checkpoint, name):
    """Returns our optimiser, its state before the first step, and the imported parameters."""
    params = import_state_dict(checkpoint.state_dict, *toy.shapes(), model=toy.name).params
    settings = SETTINGS[name]
    schedule = multi_step(settings.lr, milestones=settings.milestones)
    optimizer = OPTIMIZERS[name](schedule, weight_decay=settings.weight_decay)
    return optimizer, optimizer.init(params), params


@pytest.mark.parametrize("name", ["sgd", pytest.param("adam", marks=pytest.mark.slow)])
def test_the_next_update_is_pytorchs(toy, name):
    """From the same gradients, the third update: the first at the lower rate."""
    trainer = toy.trained(SETTINGS[name], steps=2)
    checkpoint = checkpoint_of(trainer)
    optimizer, opt_state, params = fresh(toy, checkpoint, name)
    opt_state = import_optimizer(checkpoint, opt_state, params, model=toy.name)

    generator = np.random.default_rng(0)
    named = dict(trainer.model.named_parameters())
    parameters = [entry for entry in entries(toy.name, params) if entry.collection == "params"]
    torch_gradients = {n: generator.normal(size=p.shape).astype(np.float32) for n, p in named.items()}
    for parameter_name, parameter in named.items():
        parameter.grad = trainer.model.get_parameter(parameter_name).new_tensor(
            torch_gradients[parameter_name]
        )
    trainer.optimizer.step()

    ours = put_together(((entry, torch_gradients[entry.name]) for entry in parameters), params)
    gradients = replace_leaves(params, ours)
    updates, _ = jax.jit(optimizer.update)(gradients, opt_state, params)
    updated = jax.jit(optax.apply_updates)(params, updates)
    for entry in parameters:
        found = entry.to_torch_layout(np.asarray(get_leaf(updated, entry.path)))
        expected = named[entry.name].detach()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7, err_msg=entry.name)


def test_before_the_first_step_momentum_is_zero(gaitbase):
    checkpoint = checkpoint_of(gaitbase.trained(SETTINGS["sgd"], steps=0))
    _, opt_state, params = fresh(gaitbase, checkpoint, "sgd")
    imported = import_optimizer(checkpoint, opt_state, params, model="gaitbase")
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(imported))
    assert jax.tree.structure(imported) == jax.tree.structure(opt_state)


@pytest.fixture(scope="module")
def trained_checkpoint():
    from toys import TOYS

    return checkpoint_of(TOYS["gaitbase"].trained(SETTINGS["sgd"], steps=1))


def test_refuses_an_optimizer_of_another_kind(gaitbase, trained_checkpoint):
    _, opt_state, params = fresh(gaitbase, trained_checkpoint, "adam")
    with pytest.raises(CheckpointError, match="was trained with SGD, but the config has Adam"):
        import_optimizer(trained_checkpoint, opt_state, params, model="gaitbase")


def _no_optimizer(checkpoint):
    return dataclasses.replace(checkpoint, optimizer=None)


def _edited(edit):
    def change(checkpoint):
        optimizer = copy.deepcopy(checkpoint.optimizer)
        edit(optimizer)
        return dataclasses.replace(checkpoint, optimizer=optimizer)

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_no_optimizer, "has no optimizer state; import it without --with-optimizer"),
        (_edited(lambda o: o.pop("state")), "is not PyTorch's"),
        (_edited(lambda o: o.update(param_groups=[7])), "is not PyTorch's"),
        (
            _edited(lambda o: o["param_groups"][0].update(nesterov=True)),
            "uses nesterov, which mcl_jax does not support",
        ),
        (_edited(lambda o: o["param_groups"][0]["params"].pop()), "has 39 parameters, but its model has 40"),
        (
            _edited(lambda o: o["state"][0].update(momentum_buffer=np.zeros(3))),
            r"momentum_buffer of Backbone.forward_block.conv1.conv.weight is \(3,\)",
        ),
    ],
)
def test_refuses_optimizer_state_that_does_not_fit(gaitbase, trained_checkpoint, change, why):
    _, opt_state, params = fresh(gaitbase, trained_checkpoint, "sgd")
    with pytest.raises(CheckpointError, match=why):
        import_optimizer(change(trained_checkpoint), opt_state, params, model="gaitbase")


def test_refuses_incomplete_adam_state(gaitbase):
    checkpoint = checkpoint_of(gaitbase.trained(SETTINGS["adam"], steps=1))
    _, opt_state, params = fresh(gaitbase, checkpoint, "adam")
    for edit, why in [
        (lambda state: state.pop("exp_avg_sq"), "exp_avg_sq of .* is missing"),
        (lambda state: state.pop("step"), "Adam step is not a valid number of steps"),
        (lambda state: state.update(step=np.array(np.nan)), "Adam step is not a valid number of steps"),
        (lambda state: state.update(step=np.array(5.0)), "different numbers of Adam steps"),
    ]:
        changed = _edited(lambda optimizer, edit=edit: edit(optimizer["state"][0]))(checkpoint)
        with pytest.raises(CheckpointError, match=why):
            import_optimizer(changed, opt_state, params, model="gaitbase")


def test_the_schedule_has_its_own_position(trained_checkpoint):
    assert schedule_position(trained_checkpoint) == 1
    restarted = dataclasses.replace(trained_checkpoint, scheduler={"last_epoch": 0})
    assert schedule_position(restarted) == 0
    assert schedule_position(dataclasses.replace(trained_checkpoint, scheduler=None, iteration=9)) == 9
    with pytest.raises(CheckpointError, match="its schedule's position is not a valid number of steps"):
        schedule_position(dataclasses.replace(trained_checkpoint, scheduler={}))


def test_other_settings_are_named(trained_checkpoint):
    assert compare_recipe(trained_checkpoint, {"lr": [0.1], "momentum": [0.9], "weight_decay": [5e-4]}) == []
    assert compare_recipe(trained_checkpoint, {"lr": [0.01], "momentum": [0.9]}) == [
        "lr is 0.01 in the config and 0.1 in the file"
    ]
    assert compare_recipe(trained_checkpoint, {"lr": [0.01, 0.1]}) == []  # that of a group


@pytest.mark.parametrize(
    ("model_name", "numbers", "sizes"),
    [
        ("swingait", range(7), [21, 27, 1, 3, 3, 6, 12]),
        # Layers whose rate is 0 are left out in OpenGait; the predictor is not, although it has no gradient.
        ("foundationgait", range(3, 9), [21, 12, 6, 4, 1, 3]),
    ],
)
def test_groups_of_parameters_are_numbered_as_in_opengait(model_name, numbers, sizes):
    """OpenGait's optimiser numbers the parameters group by group."""
    toy = TOYS[model_name]
    model = toy.torch_model()
    state_dict = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    group = COUNTERPARTS[model_name].group
    groups = [[name for name, _ in model.named_parameters() if group(name) == number] for number in numbers]
    assert [len(names) for names in groups] == sizes
    names = [name for members in groups for name in members]
    state = {
        number: {"step": np.array(2.0), **dict.fromkeys(("exp_avg", "exp_avg_sq"), state_dict[name])}
        for number, name in enumerate(names)
        if "predictor" not in name
    }
    numbers = iter(range(len(names)))
    parts = [{"params": [next(numbers) for _ in members]} for members in groups]
    optimizer = {"state": state, "param_groups": parts}
    checkpoint = TorchCheckpoint(state_dict, optimizer, {"last_epoch": 2}, 2, "")
    imported = import_state_dict(state_dict, *toy.shapes(), model=model_name)
    ours = OPTIMIZERS["adamw"](multi_step(3e-4)).init(imported.params)
    found = import_optimizer(checkpoint, ours, imported.params, model=model_name)
    moments = next(part for part in found if hasattr(part, "mu"))
    there = {entry.path for entry in entries(model_name, imported.params) if entry.name in names}
    for path, x in jax.tree_util.tree_leaves_with_path(moments.mu):
        keys = tuple(key.key for key in path)
        np.testing.assert_array_equal(x, get_leaf(imported.params, keys) if keys in there else 0)
