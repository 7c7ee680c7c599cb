import argparse
import collections
import json

import jax
import ml_dtypes
import numpy as np
import pytest
import torch
from toys import TOYS, Toy

import mcl_jax
from mcl_jax.convert.importer import (
    TorchCheckpoint,
    export_state_dict,
    import_state_dict,
    import_weights,
    load_checkpoint,
)
from mcl_jax.convert.opengait import COUNTERPARTS
from mcl_jax.convert.sizes import read_block, read_sizes
from mcl_jax.convert.torch_writer import write_torch_file
from mcl_jax.errors import CheckpointError, ConfigError
from mcl_jax.models import MODELS
from mcl_jax.models.registry import complete_block, create_model
from mcl_jax.weights.load import fit_partly, load_weights


def arrays(model):
    return {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}


def mismatch(state_dict, toy, **options):
    """Returns the lines of the refusal."""
    with pytest.raises(CheckpointError) as caught:
        import_state_dict(state_dict, *toy.shapes(), model=toy.name, **options)
    return str(caught.value).splitlines()


def test_round_trip_is_bit_equal_and_loads_strictly(tmp_path, toy):
    model = toy.trained().model
    original = arrays(model)
    imported = import_state_dict(original, *toy.shapes(), model=toy.name)
    exported = export_state_dict(
        imported.params, imported.batch_stats, model=toy.name, steps=imported.counted_steps
    )
    write_torch_file(tmp_path / "x.pt", {"model": exported})
    read = torch.load(tmp_path / "x.pt", weights_only=True)["model"]

    assert list(read) == list(original)
    for name, tensor in model.state_dict().items():
        assert read[name].dtype == tensor.dtype
        # FoundationGait's fine-tuning has a predictor in its files that nothing uses.
        assert "predictor" in name or torch.equal(read[name], tensor), name
    toy.torch_model().load_state_dict(read, strict=True)


def test_import_counts_parameters_and_steps(toy):
    model = toy.trained(steps=3).model
    imported = import_state_dict(arrays(model), *toy.shapes(), model=toy.name)
    assert imported.parameters == sum(
        p.numel() for name, p in model.named_parameters() if "predictor" not in name
    )
    assert imported.counted_steps == (3 if "num_classes" in toy.sizes else 0)


def test_kernels_are_transposed_and_nothing_else(gaitbase):
    original = arrays(gaitbase.torch_model())
    params = import_state_dict(original, *gaitbase.shapes(), model="gaitbase").params
    kernel = params["stages"][1]["conv1"]["conv"]["kernel"]
    name = "Backbone.forward_block.layer2.0.conv1.weight"
    assert kernel[2, 0, 1, 3] == original[name][3, 1, 2, 0]
    np.testing.assert_array_equal(params["head"]["fcs"]["kernel"], original["FCs.fc_bin"])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_floating_types_become_float32(gaitbase, dtype):
    original = arrays(gaitbase.torch_model())
    cast = {name: a.astype(dtype) if a.dtype == np.float32 else a for name, a in original.items()}
    imported = import_state_dict(cast, *gaitbase.shapes(), model="gaitbase")
    assert {leaf.dtype for leaf in jax.tree.leaves((imported.params, imported.batch_stats))} == {
        np.dtype(np.float32)
    }
    name = "Backbone.forward_block.bn1.weight"
    expected = cast[name].astype(np.float32)
    np.testing.assert_array_equal(imported.params["stem"]["norm"]["scale"], expected)


def test_all_differences_are_in_one_table(gaitbase):
    state_dict = arrays(gaitbase.torch_model())
    del state_dict["Backbone.forward_block.bn1.bias"]
    state_dict["BNNecks.bn1d.weight"] = state_dict["BNNecks.bn1d.weight"][:7]
    state_dict["BNNecks.bn1d.num_batches_tracked"] = np.ones((), np.float32)
    state_dict["Backbone.extra"] = np.zeros(3)
    lines = mismatch(state_dict, gaitbase)
    assert lines[0] == (
        "the checkpoint does not fit the model: 1 missing, 1 wrong shape, 1 wrong type, 1 unexpected"
    )
    assert [line.split() for line in lines[1:]] == [
        ["name", "problem", "in", "the", "file", "in", "the", "model"],
        ["Backbone.forward_block.bn1.bias", "missing", "-", "(2,)"],
        ["BNNecks.bn1d.weight", "wrong", "shape", "(7,)", "(80,)"],
        ["BNNecks.bn1d.num_batches_tracked", "wrong", "type", "float32", "int64"],
        ["Backbone.extra", "unexpected", "(3,)", "-"],
    ]
    column = lines[1].index("in the model")
    assert [line[column:] for line in lines[2:]] == ["(2,)", "(80,)", "int64", "-"]


def test_another_class_count_does_not_fit(gaitbase):
    state_dict = arrays(gaitbase.torch_model())
    with pytest.raises(CheckpointError, match=r"BNNecks\.fc_bin +wrong shape +\(16, 5, 3\) +\(16, 5, 9\)"):
        import_state_dict(state_dict, *gaitbase.shapes(num_classes=9), model="gaitbase")


def test_the_model_is_found_from_the_file(toy):
    checkpoint = TorchCheckpoint(arrays(toy.trained(steps=3).model), None, None, 2, "")
    weights = import_weights(checkpoint, "x.pt", toy.block)
    assert complete_block(weights.block) == toy.block
    assert (weights.step, weights.source) == (2, "x.pt")
    assert weights.uncounted_batches == (1 if "num_classes" in toy.sizes else 0)
    model = create_model(toy.name, toy.sizes, dtype="float32")
    assert jax.tree.structure((weights.params, weights.batch_stats)) == jax.tree.structure(model.shapes())


@pytest.mark.parametrize(
    ("without", "why"),
    [
        ("FCs.fc_bin", "x.pt: seems to be a checkpoint of gaitbase, but tensors that give its embed_dim"),
        ("Backbone.forward_block.bn1.bias", "x.pt: the checkpoint does not fit the model: 1 missing"),
        (
            "",
            r"x.pt: is a checkpoint of none of these models: gaitset, .*, \w+ \(it has w, …\)",
        ),
    ],
)
def test_settings_not_in_the_file_are_named(gaitbase, without, why):
    state_dict = arrays(gaitbase.torch_model()) if without else {"w": np.zeros(1)}
    state_dict.pop(without, None)
    with pytest.raises(CheckpointError, match=why):
        import_weights(TorchCheckpoint(state_dict, None, None, 0, ""), "x.pt")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A file of FoundationGait's pre-training: a teacher and a student, without a head."""
    toy = TOYS["foundationgait"]
    teacher = {n: x for n, x in toy.torch_model().state_dict().items() if n.startswith("teacher_")}
    student = {name.replace("teacher", "student"): torch.zeros_like(x) for name, x in teacher.items()}
    path = tmp_path_factory.mktemp("pretrained") / "F.pt"
    torch.save({"model": {**teacher, **student}, "iteration": 150_000}, path)
    return path, {name: x.numpy() for name, x in teacher.items()}


def test_training_starts_from_a_pretrained_backbone(pretrained, caplog):
    path, teacher = pretrained
    toy = TOYS["foundationgait"]
    weights = load_weights(path, toy.block, partly=True)
    model = create_model(toy.name, toy.sizes, dtype="float32")
    own = jax.tree.map(lambda x: np.full(x.shape, 7, np.float32), model.shapes())
    arrays = fit_partly(weights, model, *own, keep_classifier=True)
    assert "initial values stay in head/fcs (1), head/necks (5); not used are none" in caplog.text
    exported = export_state_dict(*arrays, model=toy.name, steps=0)
    for name, x in exported.items():
        if name.startswith(("FCs.", "BNNecks.")):
            assert name.endswith("tracked") or (x == 7).all()
        elif "predictor" not in name:
            np.testing.assert_array_equal(x, teacher[name])


def test_a_pretrained_backbone_alone_embeds_nothing(pretrained):
    path, teacher = pretrained
    with pytest.raises(CheckpointError, match=r"F\.pt: is a pre-trained backbone of foundationgait, without"):
        mcl_jax.load(path)
    checkpoint = TorchCheckpoint(teacher, None, None, 0, "")
    with pytest.raises(CheckpointError, match=r"x\.pt: has 5 parts, but model\.bins .* give 31"):
        import_weights(checkpoint, "x.pt", partly=True)
    del teacher["teacher_backbone.layer3.0.sbn.bias"]
    with pytest.raises(CheckpointError, match=r"layer3\.0\.sbn\.bias +missing"):
        import_weights(checkpoint, "x.pt", TOYS["foundationgait"].block, partly=True)


def test_tensors_that_nothing_uses_need_not_be_there(toy):
    state_dict = arrays(toy.torch_model())
    for name in [name for name in state_dict if "predictor" in name]:
        del state_dict[name]
    import_state_dict(state_dict, *toy.shapes(), model=toy.name)


def test_sizes_are_read_from_the_file(toy):
    sizes = read_sizes(arrays(toy.torch_model()))
    untold = {*COUNTERPARTS[toy.name].untold, *MODELS[toy.name].CHOICES}
    assert sizes == {key: value for key, value in toy.block.items() if key not in untold}


def test_settings_not_in_the_file_come_from_config_or_defaults():
    toy = TOYS["gaitbase_sizes"]
    checkpoint = TorchCheckpoint(arrays(toy.torch_model()), None, None, 0, "")
    block = import_weights(checkpoint, "x.pt", toy.block | {"strides": (1, 2, 1, 1)}).block
    assert (block["strides"], block["max_pool"], block["bins"]) == ((1, 2, 1, 1), True, (8, 2))
    with pytest.raises(CheckpointError, match=r"x\.pt: has 10 parts, but model\.bins \(16,\) give 16; "):
        import_weights(checkpoint, "x.pt")
    published = TorchCheckpoint(arrays(TOYS["gaitbase"].torch_model()), None, None, 0, "")
    assert complete_block(import_weights(published, "x.pt").block) == TOYS["gaitbase"].block
    stages_differ = toy.block | {"strides": (2, 2, 1, 1)}  # the file has no projection in its first stage
    with pytest.raises(CheckpointError, match=r"layer1\.0\.downsample\.0\.weight +missing"):
        import_weights(checkpoint, "x.pt", stages_differ)


def test_a_file_of_plain_convolutions_has_the_bins_of_the_published_run():
    toy = TOYS["gaitbase_plain"]
    published = Toy(toy.name, toy.sizes | {"bins": (16, 8, 4, 2, 1)})
    assert complete_block(read_block(arrays(published.torch_model()), {})) == published.block
    with pytest.raises(CheckpointError, match=r"has 10 parts, but model\.bins \(16, 8, 4, 2, 1\) give 31"):
        read_block(arrays(toy.torch_model()), {})


def test_sizes_of_unknown_models_are_empty():
    assert read_sizes({"conv.weight": np.zeros((2, 2))}) == {}
    assert read_sizes({"layer0.forward_block.0.weight": np.zeros(3), "layer2.0.x": np.zeros(())}) == {
        "name": "deepgaitv2",
        "mode": "3d",
        "layers": (0, 1, 0, 0),
    }


@pytest.mark.parametrize("form", ["whole", "bare", "prefixed", "ordered"])
def test_accepts_every_form_of_checkpoint(tmp_path, form):
    model = {"a": torch.ones(2), "b": torch.zeros(1)}
    content = {
        "whole": {"model": model, "optimizer": {}, "scheduler": {}, "iteration": 12},
        "bare": model,
        "prefixed": {"model": {f"module.{name}": tensor for name, tensor in model.items()}},
        "ordered": collections.OrderedDict(model),
    }[form]
    torch.save(content, tmp_path / "x.pt")
    checkpoint = load_checkpoint(tmp_path / "x.pt")
    assert list(checkpoint.state_dict) == ["a", "b"]
    assert checkpoint.iteration == (12 if form == "whole" else 0)
    assert len(checkpoint.digest) == 64


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({}, "has no state_dict"),
        ([torch.ones(1)], "has no state_dict"),
        ({"state": {"w": torch.ones(1)}}, "'state' is not a tensor"),
        ({"model": {"w": torch.ones(1), "n": 3}}, "'n' is not a tensor"),
        ({"model": {3: torch.ones(1)}}, "3 is not a tensor"),
        ({"model": {"w": torch.ones(1)}, "iteration": "six"}, "iteration is not a valid number"),
        ({"model": {"w": torch.ones(1)}, "iteration": 2**31}, "iteration is not a valid number"),
        ({"two\nlines": torch.ones(1)}, "is not a tensor"),
        ({"model": {"w": torch.ones(1)}, "iteration": -1}, "iteration is not a valid number"),
    ],
)
def test_refuses_other_content(tmp_path, content, why):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=why):
        load_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize(
    "name",
    [
        *("gaitset", "gaitbase", "gaitpart", "gaitgl", "gaitgl_large", "gaitgl_bnneck", "swingait"),
        "foundationgait",
        *("deepgaitv2_2d", "deepgaitv2_3d", "deepgaitv2_p3d"),
    ],
)
def test_checkpoints_of_the_reference_have_these_names(shared_parity, name):
    from torch_reference import MODELS as THERE

    checkpoint = load_checkpoint(shared_parity / f"{name}.pt")
    sizes = read_sizes(checkpoint.state_dict)
    model = sizes.pop("name")
    sizes |= {"bins": (16, 8, 4, 2, 1)} if model == "foundationgait" else COUNTERPARTS[model].guess(sizes)
    assert list(THERE[model](**sizes).state_dict()) == list(checkpoint.state_dict)
    assert checkpoint.iteration == {"swingait": 3, "foundationgait": 0}.get(name, 6)


@pytest.mark.parametrize("count", [np.int64(12), np.float64(12), torch.tensor(12), 12.0], ids=str)
def test_checkpoints_of_other_programs_are_read(tmp_path, count):
    weights = {f"module._orig_mod.{name}": torch.ones(2) for name in ("a", "b")}
    beside = {"args": argparse.Namespace(lr=0.1, milestones=[1]), "best": np.float32(0.5)}
    torch.save({"state_dict": weights, "iteration": count, **beside}, tmp_path / "x.pt")
    checkpoint = load_checkpoint(tmp_path / "x.pt")
    assert list(checkpoint.state_dict) == ["a", "b"]
    assert checkpoint.iteration == 12


def test_safetensors_are_read_and_damage_is_named(tmp_path):
    header = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    header |= {"b": {"dtype": "BF16", "shape": [], "data_offsets": [8, 10]}, "__metadata__": {"by": "x"}}
    text = json.dumps(header).encode()
    body = np.float32([1, 2]).tobytes() + np.array(3, ml_dtypes.bfloat16).tobytes()
    content = len(text).to_bytes(8, "little") + text + body
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    state_dict = load_checkpoint(path).state_dict
    assert (state_dict["a"].tolist(), float(state_dict["b"])) == ([1, 2], 3)
    for damaged in (b"", content[:-1], content[:20], content.replace(b"[2]", b"[9]"), b"\xff" * 16):
        path.write_bytes(damaged)
        with pytest.raises(
            CheckpointError, match=r"x\.safetensors: (is not a safetensors file|has no state)"
        ):
            load_checkpoint(path)


def original_gaitset(frames, weights):
    """The original GaitSet's embedding [1, parts, channels] of frames [s, h, w], as its code computes it."""
    conv, leaky, pool = torch.nn.functional.conv2d, torch.nn.functional.leaky_relu, torch.nn.MaxPool2d(2)

    def layer(x, name, padding=1):
        return leaky(conv(x, weights[f"{name}.conv.weight"], padding=padding))

    def most(x):
        return x.max(0, keepdim=True)[0]

    x = layer(frames[:, None], "set_layer1.forward_block", 2)
    x = pool(layer(x, "set_layer2.forward_block"))
    gl = pool(layer(layer(most(x), "gl_layer1"), "gl_layer2"))
    x = pool(layer(layer(x, "set_layer3.forward_block"), "set_layer4.forward_block"))
    gl = layer(layer(gl + most(x), "gl_layer3"), "gl_layer4")
    x = most(layer(layer(x, "set_layer5.forward_block"), "set_layer6.forward_block"))
    gl = gl + x
    features = []
    for strips in (1, 2, 4, 8, 16):
        for branch in (x, gl):
            z = branch.reshape(1, branch.shape[1], strips, -1)
            features.append(z.mean(3) + z.max(3)[0])
    return torch.cat(features, 2).permute(2, 0, 1).matmul(weights["fc_bin"]).permute(1, 0, 2)


def test_the_original_gaitset_is_read_with_its_parts_in_order(tmp_path):
    torch.manual_seed(0)
    sizes = {
        "set_layer1": (2, 1, 5),
        "set_layer2": (2, 2, 3),
        "set_layer3": (3, 2, 3),
        "set_layer4": (3, 3, 3),
    }
    sizes |= {"set_layer5": (4, 3, 3), "set_layer6": (4, 4, 3)}
    weights = {f"{k}.forward_block.conv.weight": torch.randn(o, i, n, n) for k, (o, i, n) in sizes.items()}
    for name, (out, into) in zip(("1", "2", "3", "4"), ((3, 2), (3, 3), (4, 3), (4, 4)), strict=True):
        weights[f"gl_layer{name}.conv.weight"] = torch.randn(out, into, 3, 3)
    weights["fc_bin"] = torch.randn(62, 4, 5)
    torch.save(weights, tmp_path / "x.pt")
    frames = (torch.rand(6, 64, 44) > 0.5).float()
    expected = original_gaitset(frames, weights)[0].numpy()
    gait = mcl_jax.load(tmp_path / "x.pt")
    (embedding,) = gait.embed((frames * 255).numpy().astype(np.uint8))
    # The order of OpenGait's parts: those of the set, of the finest strips first, then the global ones.
    starts = {
        (strips, branch): 2 * (strips - 1) + branch * strips
        for strips in (1, 2, 4, 8, 16)
        for branch in (0, 1)
    }
    order = [starts[strips, b] + i for b in (0, 1) for strips in (16, 8, 4, 2, 1) for i in range(strips)]
    assert embedding == pytest.approx(expected[order], rel=1e-4, abs=1e-3)


def test_assumed_settings_are_reported_and_can_be_set(tmp_path, caplog):
    toy = TOYS["gaitbase_sizes"]
    torch.save(toy.torch_model().state_dict(), tmp_path / "x.pt")
    told = {key: toy.block[key] for key in ("strides", "max_pool", "bins")}
    assert mcl_jax.load(tmp_path / "x.pt", **told).arguments["strides"] == toy.block["strides"]
    assert "the file does not give" not in caplog.text
    mcl_jax.load(tmp_path / "x.pt", bins=list(toy.block["bins"]), strides=toy.block["strides"])
    assert "the file does not give max_pool False; assumed as in the published models" in caplog.text
    with pytest.raises(ConfigError, match="stride: gaitbase has no such argument"):
        mcl_jax.load(tmp_path / "x.pt", **told, stride=1)
    with pytest.raises(ConfigError, match=r"channels: is \(1, 1, 1, 1\), and .*x\.pt says \(2, 4, 4, 6\)"):
        mcl_jax.load(tmp_path / "x.pt", **told, channels=(1, 1, 1, 1))


@pytest.mark.parametrize("name", ["gaitbase", "deepgaitv2_p3d"])
def test_only_the_layer_that_differs_is_named(name):
    toy = TOYS[name]
    state_dict = arrays(toy.torch_model())
    # The kernel that the width of the stage was read from.
    kernels = ("layer3.0.conv2.weight", "layer3.0.conv2.forward_block.0.weight")
    wrong = next(key for key in state_dict if key.endswith(kernels))
    state_dict[wrong] = np.concatenate([state_dict[wrong]] * 3)
    with pytest.raises(CheckpointError, match="does not fit the model: 1 wrong shape") as caught:
        import_weights(TorchCheckpoint(state_dict, None, None, 0, ""), "x.pt", toy.block)
    assert wrong in str(caught.value)
