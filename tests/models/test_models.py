"""Whole models: sizes, and the same embedding alone, packed, and on any number of devices."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mcl_jax.models import MODELS
from mcl_jax.models.registry import create_model, digest_of
from mcl_jax.runtime.mesh import data_mesh, put_rows
from mcl_jax.runtime.settings import compiler_options

VARIANTS = {
    "gaitset": ("gaitset", {"channels": (2, 3, 4), "embed_dim": 5}),
    "gaitbase": ("gaitbase", {"channels": (2, 3, 4, 4), "embed_dim": 5, "num_classes": 3}),
    "gaitbase_sizes": (
        "gaitbase",
        {
            "channels": (2, 3, 3, 4),
            "layers": (1, 2, 1, 1),
            "strides": (1, 2, 1, 2),
            "max_pool": True,
            "bins": (16, 4, 1),
            "embed_dim": 5,
            "num_classes": 3,
        },
    ),
    "gaitpart": ("gaitpart", {"channels": (2, 3, 4), "strips": (1, 4, 8), "embed_dim": 5}),
    "gaitgl": ("gaitgl", {"channels": (2, 3, 4), "num_classes": 3}),
    "gaitgl_large": ("gaitgl", {"form": "large", "channels": (2, 3, 4, 4), "num_classes": 3}),
    "gaitgl_necks": ("gaitgl", {"channels": (2, 3, 4), "necks": True, "num_classes": 3}),
    "swingait": (
        "swingait",
        {"layers": (1, 1, 2, 1), "channels": (2, 3), "widths": (16, 32), "parts": 3, "num_classes": 3},
    ),
    "foundationgait": (
        "foundationgait",
        {
            "layers": (1, 1, 1, 1),
            "channels": (2, 3, 4, 4),
            "bins": (4, 1),
            "embed_dim": 5,
            "num_classes": 3,
        },
    ),
    "gaitenergy": ("gaitenergy", {"channels": (2, 3, 4), "gates": 2, "embed_dim": 5, "num_classes": 3}),
    "gaitpocket": ("gaitpocket", {"channels": (2, 3, 4, 4), "embed_dim": 5, "num_classes": 3}),
    **{
        f"deepgaitv2_{mode}": (
            "deepgaitv2",
            {"channels": (2, 3, 4, 4), "layers": (1, 2, 1, 1), "mode": mode, "num_classes": 3},
        )
        for mode in ("2d", "3d", "p3d")
    },
}
PARTS = {
    "gaitset": 62,
    "swingait": 3,
    "foundationgait": 5,
    "gaitbase_sizes": 21,
    "gaitgl": 64,
    "gaitgl_large": 64,
    "gaitgl_necks": 64,
}


# Variants of which a near relative is tested by `make test`.
OTHER_VARIANTS = (
    "gaitbase_sizes",
    "gaitgl_large",
    "gaitgl_necks",
    "gaitenergy",
    "deepgaitv2_2d",
    "deepgaitv2_3d",
    "foundationgait",
)
EVERY_VARIANT = [pytest.param(v, marks=[pytest.mark.slow] * (v in OTHER_VARIANTS)) for v in VARIANTS]


@pytest.fixture(scope="module", params=EVERY_VARIANT)
def embed(request):
    """A model variant and its compiled test embedding of (frames, segment_ids, num_segments)."""
    name, arguments = VARIANTS[request.param]
    model = create_model(name, arguments, dtype="float32")
    params, batch_stats = model.initial_arrays(0)
    # Running statistics that are not those of an untrained model.
    batch_stats = jax.tree.map(lambda x: x + 0.1 * jnp.arange(x.size).reshape(x.shape) / x.size, batch_stats)

    @jax.jit
    def with_segments(frames, segment_ids, num_segments):
        module = model.merge(params, batch_stats)
        return module(frames, segment_ids, num_segments=len(num_segments), train=False).embeddings

    return request.param, lambda frames, ids, k: with_segments(frames, ids, jnp.zeros(k))


def sequences(lengths: list[int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (length, 64, 44), np.uint8) for length in lengths]


def test_packed_equals_alone_on_any_devices(embed):
    name, run = embed
    clips = sequences([3, 5, 2, 4, 1, 7])
    spacing = MODELS[VARIANTS[name][0]].SPACING
    frames = np.zeros((4, 14, 64, 44), np.uint8)
    segment_ids = np.full((4, 14), -1, np.int32)
    # Two in each row, as near to each other as the model takes them: [3 _ 5 _ …], [2 _ 4 _ …], …, empty.
    for i, clip in enumerate(clips):
        row, segment = divmod(i, 2)
        start = segment * spacing.taken(len(clips[i - 1]))
        slots = slice(start, start + len(clip))
        frames[row, slots], segment_ids[row, slots] = clip, segment
    # What lies in an empty slot must not matter.
    frames[segment_ids < 0] = 255

    # Each in a row of its own; the last fills it, so that it is alone to the last slot.
    rows = np.stack([np.pad(clip, ((0, 7 - len(clip)), (0, 0), (0, 0))) for clip in clips])
    ids = np.stack([np.where(np.arange(7) < len(clip), 0, -1) for clip in clips]).astype(np.int32)
    alone = np.asarray(run(rows, ids, 1))
    assert alone.shape == (6, PARTS.get(name, 16), alone.shape[2])
    for devices in (1, 4):
        batch = put_rows({"frames": frames, "segment_ids": segment_ids}, data_mesh(jax.devices()[:devices]))
        packed = run(batch["frames"], batch["segment_ids"], 2)
        assert packed[:6] == pytest.approx(alone, rel=1e-4, abs=1e-5), devices
        assert jnp.isfinite(packed).all()


@pytest.mark.parametrize(
    ("name", "arguments", "millions"),
    [
        ("gaitset", {}, 2.595),
        ("gaitset", {"channels": (64, 128, 256)}, 6.314),
        ("gaitbase", {"num_classes": 74}, 7.305),
        ("gaitbase", {"num_classes": 3000}, 19.290),
        ("deepgaitv2", {"num_classes": 3000}, 25.492),
        ("gaitpart", {}, 1.204),
        ("gaitgl", {"num_classes": 74}, 3.097),
        ("gaitgl", {"form": "large", "channels": (32, 64, 128, 256), "num_classes": 5153}, 95.620),
        (
            "gaitgl",
            {"form": "large", "channels": (32, 64, 128, 256), "necks": True, "num_classes": 20000},
            338.906,
        ),
        ("gaitpart", {"channels": (32, 64, 128, 256), "strips": (1, 1, 8, 8), "embed_dim": 256}, 4.841),
        # Published with the predictor of pre-training, which is not here.
        *(
            pytest.param(
                "foundationgait",
                {"layers": layers, "num_classes": 100},
                published - 16.284672,
                marks=pytest.mark.slow,
            )
            for layers, published in (((1, 4, 8, 4), 70.608), ((1, 4, 32, 16), 169.772))
        ),
        ("swingait", {"layers": (1, 1, 2, 2), "num_classes": 100}, 11.040),
        ("swingait", {"layers": (1, 1, 2, 2), "num_classes": 250}, 11.654),
        ("swingait", {"num_classes": 3000}, 25.539),
        ("swingait", {"num_classes": 20000}, 95.171),
    ],
)
def test_parameter_counts_are_the_published_ones(name, arguments, millions):
    model = nnx.eval_shape(lambda: MODELS[name](**arguments, rngs=nnx.Rngs(0)))
    count = sum(math.prod(p.shape) for p in jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert count / 1e6 == pytest.approx(millions, abs=5e-4)


@pytest.mark.parametrize(
    ("name", "arguments", "digest"),
    [
        (
            "gaitbase",
            {"channels": (2, 2, 2, 2), "embed_dim": 2, "num_classes": 3},
            "e942c2d00661",
        ),
        (
            "gaitset",
            {"channels": (2, 2, 2), "embed_dim": 2},
            "4e7612bf8f3d",
        ),
    ],
)
def test_a_model_has_the_digest_it_had_before_it_had_more_arguments(name, arguments, digest):
    """Else galleries and calibrations made with it would be refused."""

    def digest_with(**more):
        model = create_model(name, arguments | more, dtype="float32")
        return digest_of(model, *jax.tree.map(lambda x: np.ones(x.shape, np.float32), model.shapes()))[:12]

    assert digest_with() == digest
    same_shapes = {"max_pool": True} if name == "gaitbase" else {"bins": (16, 8, 4, 1, 2)}
    assert digest_with(**same_shapes) != digest


@pytest.mark.slow
def test_half_precision_is_of_the_backbone_only():
    name, arguments = VARIANTS["gaitbase"]
    model = create_model(name, arguments, dtype="bfloat16")
    params, batch_stats = model.initial_arrays(0)
    assert {x.dtype for x in jax.tree.leaves((params, batch_stats))} == {jnp.dtype("float32")}
    frames = jnp.asarray(np.stack(sequences([3, 3])))
    ids = jnp.zeros((2, 3), jnp.int32)

    def run(dtype):
        module = create_model(name, arguments, dtype=dtype).merge(params, batch_stats)
        return module(frames, ids, num_segments=1, train=True)

    full = run("float32")
    for dtype, least in (("bfloat16", 0.99), ("float16", 0.9999)):
        half = run(dtype)
        assert half.embeddings.dtype == half.logits.dtype == jnp.float32
        cosine = (half.embeddings * full.embeddings).sum() / (
            jnp.linalg.norm(half.embeddings) * jnp.linalg.norm(full.embeddings)
        )
        assert least < cosine < 1


@pytest.mark.parametrize(
    "variant", sorted(VARIANTS.keys() - {"gaitbase_sizes", "gaitgl_large", "deepgaitv2_2d", "deepgaitv2_3d"})
)
@pytest.mark.slow
def test_rematerialised_gradients_and_statistics_are_the_same(variant):
    name, arguments = VARIANTS[variant]
    frames = jnp.asarray(np.stack(sequences([10, 10])))
    ids = jnp.array([[0, 0, 0, -1, -1, -1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0, -1, -1, -1]])
    rng = np.random.default_rng(0)

    def gradients(remat):
        def loss(params):
            module = model.merge(params, batch_stats, remat=remat)
            output = module(frames, ids, num_segments=2, train=True)
            numbers = [x for x in (output.embeddings, output.logits) if x is not None]
            return sum(jnp.square(x).sum() for x in numbers), nnx.to_pure_dict(
                nnx.state(module, nnx.BatchStat)
            )

        lowered = jax.jit(jax.grad(loss, has_aux=True), compiler_options=compiler_options(training=True))
        lowered = lowered.lower(params)
        return lowered.as_text().count("optimization_barrier"), lowered.compile()(params)

    with jax.enable_x64(True):  # in float32 the order of sums shows: the compiler joins operations otherwise
        model = create_model(name, arguments, dtype="float64")
        params, batch_stats = jax.tree.map(lambda x: jnp.array(rng.uniform(-0.5, 1, x.shape)), model.shapes())
        (none, kept), (blocks, again) = gradients(False), gradients(True)
    assert blocks >= none + 3  # else nothing was computed again
    assert all(np.any(x) for x in jax.tree.leaves(kept))
    assert jax.tree.structure(kept) == jax.tree.structure(again)
    for x, y in zip(jax.tree.leaves(kept), jax.tree.leaves(again), strict=True):
        assert np.asarray(y) == pytest.approx(np.asarray(x), rel=1e-9, abs=1e-9)
