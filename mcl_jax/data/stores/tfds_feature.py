"""TFDS feature that stores packed silhouettes."""

from typing import Any, ClassVar, cast

import numpy as np
import tensorflow_datasets as tfds

from mcl_jax.data.stores.silhouette_codec import PackedFrames, pack


class Silhouettes(tfds.features.FeatureConnector):
    """Feature for the silhouettes of a sequence, uint8 [s, height, width], stored as one bytes value."""

    ALIASES: ClassVar[list[str]] = ["mcl_jax.data.builders.silhouettes.Silhouettes"]
    """Earlier name of this class, found in the features.json of older folders."""

    def get_tensor_info(self) -> tfds.features.TensorInfo:
        """Returns the shape and type of decoded silhouettes."""
        return tfds.features.TensorInfo(shape=(None, None, None), dtype=np.uint8)

    def get_serialized_info(self) -> tfds.features.TensorInfo:
        """Returns the shape and type of stored silhouettes."""
        return tfds.features.TensorInfo(shape=(), dtype=np.object_)

    def encode_example(self, example_data: np.ndarray) -> bytes:
        """Encodes frames for storage."""
        return pack(example_data)

    def decode_example_np(self, example_data: Any) -> np.ndarray:
        """Decodes stored frames."""
        return PackedFrames(cast(bytes, example_data))[:]

    def decode_example(self, tfexample_data: Any) -> Any:
        """Refuses to decode, because unpacking needs NumPy and TensorFlow would get the packed bytes.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("read silhouettes with as_data_source(), not with as_dataset()")
