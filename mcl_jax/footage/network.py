"""A person segmentation network from a file, run by OpenCV."""

import struct
from pathlib import Path

import cv2
import numpy as np

from mcl_jax.errors import DataError
from mcl_jax.files import read_bounded
from mcl_jax.footage.model_size import onnx_input, tflite_input

MAX_BYTES = 2**29

_SIDE_IF_FREE = 512  # of a network that takes pictures of any size


class Network:
    """Finds the people in a picture.

    A network of one output gives the probability of a person, or its logit where values leave 0..1; one of
    two, background and person; of more, classes of which `person_class` is a person.

    Args:
        path: .onnx or .tflite, with one input [1, 3, h, w] or [1, h, w, 3], RGB from 0 to 1.
        person_class: which output is a person; None where there are at most two.

    Raises:
        DataError: it cannot be read, or its input is no picture.
    """

    def __init__(self, path: Path, person_class: int | None) -> None:
        self.path, self.person_class = path, person_class
        kind = path.suffix.lower()
        if kind not in (".onnx", ".tflite"):
            raise DataError(f"{path}: a network ends in .onnx or .tflite")
        try:
            content = read_bounded(path, MAX_BYTES)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from None
        try:
            shape = onnx_input(content) if kind == ".onnx" else tflite_input(content)
            read = cv2.dnn.readNetFromONNX if kind == ".onnx" else cv2.dnn.readNetFromTFLite
            self.net = read(np.frombuffer(content, np.uint8))
        except (cv2.error, struct.error, ValueError, IndexError):
            raise DataError(f"{path}: is damaged, or no network that OpenCV reads") from None
        self.columns, self.rows = self._picture_size(shape)

    def _picture_size(self, shape: list[int]) -> tuple[int, int]:
        """Columns and rows of its input; OpenCV takes any, and computes nonsense of a wrong one."""
        if len(shape) == 4 and shape[1] == 3:
            rows, columns = shape[2:]
        elif len(shape) == 4 and shape[3] == 3:
            rows, columns = shape[1:3]
        else:
            raise DataError(f"{self.path}: its input is {shape}; expected [1, 3, h, w] or [1, h, w, 3]")
        return columns if columns > 0 else _SIDE_IF_FREE, rows if rows > 0 else _SIDE_IF_FREE

    def mask(self, picture: np.ndarray) -> np.ndarray:
        """Returns where people are, uint8 [h, w] of 0 and 255, in a picture uint8 [h, w, 3], BGR.

        Raises:
            DataError: OpenCV cannot run it, or its output is no mask.
        """
        blob = cv2.dnn.blobFromImage(picture, 1 / 255, (self.columns, self.rows), swapRB=True)
        try:
            self.net.setInput(blob)
            output = np.asarray(self.net.forward(), np.float32)
        except cv2.error as error:
            reason = " ".join(str(error.err).split())
            raise DataError(f"{self.path}: OpenCV cannot run this network: {reason}") from None
        score = cv2.resize(self._score(output), picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        return np.where(score > 0, 255, 0).astype(np.uint8)

    def _score(self, output: np.ndarray) -> np.ndarray:
        """What is above 0 where a person is, [h, w]."""
        if output.ndim == 3:
            output = output[:, None]
        if output.ndim == 4 and output.shape[3] < output.shape[1] and output.shape[3] <= output.shape[2]:
            output = output.transpose(0, 3, 1, 2)  # channels last
        if output.ndim != 4 or len(output) != 1 or not np.isfinite(output).all():
            raise DataError(f"{self.path}: its output {list(output.shape)} is no mask; expected [1, c, h, w]")
        classes = output[0]
        person = self.person_class if len(classes) > 2 else len(classes) - 1
        if person is None or not 0 <= person < len(classes):
            raise DataError(
                f"{self.path}: has {len(classes)} classes; give the person's as person_class, from 0"
            )
        if len(classes) == 1:
            is_probability = classes.min() >= 0 and classes.max() <= 1
            return np.ascontiguousarray(classes[0] - 0.5 if is_probability else classes[0])
        return np.ascontiguousarray(classes[person] - np.delete(classes, person, axis=0).max(axis=0))
