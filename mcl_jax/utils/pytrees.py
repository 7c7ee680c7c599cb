"""Helpers for nested dicts of arrays: names of leaves, norms, counts."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

ArrayTree = Mapping[Any, Any]
"""Nested dicts of arrays, as `nnx.to_pure_dict` makes them; a list of modules is a dict with integer keys."""

_LARGE = 1 << 14

TreePath = tuple[str | int, ...]
"""Keys from the root to a leaf."""


def get_leaf(tree: ArrayTree, path: TreePath) -> Any:
    """Returns the leaf of a nested mapping at a path."""
    leaf: Any = tree
    for key in path:
        leaf = leaf[key]
    return leaf


def with_leaf(tree: ArrayTree, path: TreePath, leaf: Any) -> ArrayTree:
    """Returns the nested mapping with another leaf at a path."""
    key, *rest = path
    return {**tree, key: with_leaf(tree[key], tuple(rest), leaf) if rest else leaf}


def leaves_by_name(tree: Any) -> dict[str, Any]:
    """Returns the leaves of any tree, each under its keys joined by slashes.

    Names are the same for the tree before saving and for the nested dicts that Orbax restores.
    """
    return {leaf_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def leaf_name(path: tuple[Any, ...]) -> str:
    """Returns the name of a leaf in `leaves_by_name`, from JAX's path to it."""
    return "/".join(jax.tree_util.keystr((key,), simple=True) for key in path)


def nested(leaves: Mapping[str, Any]) -> dict[Any, Any]:
    """Returns nested dicts of leaves by names of `leaves_by_name`; keys of digits become integers.

    Raises:
        ValueError: if a name leads through a leaf.
    """
    tree: dict[Any, Any] = {}
    for name, leaf in leaves.items():
        *folders, last = (int(key) if key.isdecimal() else key for key in name.split("/"))
        branch = tree
        for key in folders:
            branch = branch.setdefault(key, {})
            if not isinstance(branch, dict):
                raise ValueError(name)
        branch[last] = leaf
    return tree


def replace_leaves(tree: ArrayTree, arrays: Mapping[TreePath, np.ndarray]) -> ArrayTree:
    """Returns a tree with other arrays at some paths, as JAX arrays of the old types."""

    def replace(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        array = arrays.get(tuple(key.key for key in path))
        return leaf if array is None else jnp.asarray(array, leaf.dtype)

    return jax.tree_util.tree_map_with_path(replace, tree)


def count_numbers(tree: ArrayTree) -> int:
    """Returns the total number of numbers in the arrays of a tree."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def norm(tree: Any) -> jax.Array:
    """Returns the Euclidean norm of all numbers of a tree's floating-point arrays."""

    def by_leaf(leaves: list[jax.Array]) -> jax.Array:
        return jnp.sqrt(sum(jnp.square(x).sum() for x in _small_joined(leaves)))

    def at_once(leaves: list[jax.Array]) -> jax.Array:
        return jnp.sqrt(jnp.square(_joined(leaves)).sum())

    return lax.platform_dependent(_floats(tree), cpu=at_once, default=by_leaf)


def finite(tree: Any) -> jax.Array:
    """Returns whether all numbers of a tree's floating-point arrays are finite."""

    def by_leaf(leaves: list[jax.Array]) -> jax.Array:
        return jnp.stack([jnp.isfinite(x).all() for x in _small_joined(leaves)]).all()

    def at_once(leaves: list[jax.Array]) -> jax.Array:
        # Without the barrier, the CPU's compiler repeats the check in the loop of every parameter.
        return lax.optimization_barrier(jnp.isfinite(_joined(leaves)).all())

    return lax.platform_dependent(_floats(tree), cpu=at_once, default=by_leaf)


def _floats(tree: Any) -> list[jax.Array]:
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]


def _small_joined(leaves: list[jax.Array]) -> list[jax.Array]:
    """Returns the large arrays, and all small ones joined, which is cheaper than a kernel for each."""
    small = [x.ravel() for x in leaves if x.size < _LARGE]
    return [x for x in leaves if x.size >= _LARGE] + ([jnp.concatenate(small)] if small else [])


def _joined(leaves: list[jax.Array]) -> jax.Array:
    """Joins all numbers in one array: hundreds of separate loops take longer to compile on a CPU."""
    # Without the barrier, the compiled CPU code looks up the source array again for each number.
    return lax.optimization_barrier(jnp.concatenate([x.ravel() for x in leaves]))


def all_finite(tree: Any) -> bool:
    """Returns whether all numbers of a tree of arrays on the host are finite."""
    arrays = map(np.asarray, jax.tree.leaves(tree))
    return all(bool(np.isfinite(array).all()) for array in arrays if array.dtype.kind == "f")


def flat_keys(nested: Any, prefix: str = "") -> dict[str, Any]:
    """Returns dotted key → value of nested dicts or config dicts, in their order."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= flat_keys(value, f"{prefix}{key}.") if hasattr(value, "items") else {prefix + key: value}
    return flat
