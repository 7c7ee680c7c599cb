"""The model that comes with the package: trained on synthetic people alone; see docs/model_card.md."""

from mcl_jax.pretrained.files import load_weights, save_weights

__all__ = ["load_weights", "save_weights"]
