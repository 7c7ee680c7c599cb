"""The shape of a network's input, as its file says: OpenCV does not tell it.

The few fields that are needed are read by hand, so that neither onnx nor TensorFlow Lite must be installed.
Dimensions that are free are 0.

References:
    onnx.proto of ONNX; schema.fbs of TensorFlow Lite; the encodings of protocol buffers and of FlatBuffers.
"""

import struct
from collections.abc import Iterator

Field = tuple[int, int | bytes]


def onnx_input(content: bytes) -> list[int]:
    """Returns the shape of the input of an ONNX model.

    Raises:
        ValueError, IndexError: it is no such file, or has not one input.
    """
    graph = _message(content, 7)
    weights = {_message(tensor, 8) for tensor in _messages(graph, 5)}
    inputs = [value for value in _messages(graph, 11) if _message(value, 1) not in weights]
    if len(inputs) != 1:
        raise ValueError(f"{len(inputs)} inputs")
    shape = _message(_message(_message(inputs[0], 2), 1), 2)
    sizes = []
    for dimension in _messages(shape, 1):
        known = [value for number, value in _fields(dimension) if number == 1 and isinstance(value, int)]
        sizes.append(known[0] if known else 0)
    return sizes


def is_split(content: bytes) -> bool:
    """Returns whether an ONNX model says that some of its weights are in another file.

    Raises:
        ValueError, IndexError: it is no such file.
    """
    return any(_messages(tensor, 13) for tensor in _messages(_message(content, 7), 5))


def _fields(message: bytes) -> Iterator[Field]:
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == 0:
            number, place = _varint(message, place)
            yield key >> 3, number
            continue
        if kind == 2:
            length, place = _varint(message, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if place + length > len(message):
            raise ValueError("cut off")
        yield key >> 3, message[place : place + length]
        place += length


def _varint(message: bytes, place: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
    raise ValueError("a number of more than 64 bits")


def _messages(message: bytes, wanted: int) -> list[bytes]:
    return [value for number, value in _fields(message) if number == wanted and isinstance(value, bytes)]


def _message(message: bytes, wanted: int) -> bytes:
    return _messages(message, wanted)[0]


def tflite_input(content: bytes) -> list[int]:
    """Returns the shape of the input of a TensorFlow Lite model.

    Raises:
        ValueError, IndexError, struct.error: it is no such file, or has not one input.
    """
    if content[4:8] != b"TFL3":
        raise ValueError("no TFL3")
    model = _follow(content, 0)
    graph = _follow(content, _items(content, _field(content, model, 2))[0])
    tensors = _items(content, _field(content, graph, 0))
    (number,) = _numbers(content, _field(content, graph, 1))
    tensor = _follow(content, tensors[number])
    return list(_numbers(content, _field(content, tensor, 0)))


def _follow(content: bytes, place: int) -> int:
    return place + int(struct.unpack_from("<I", content, place)[0])


def _field(content: bytes, table: int, number: int) -> int:
    """Where a field of a table is."""
    fields = table - struct.unpack_from("<i", content, table)[0]
    if fields < 0 or struct.unpack_from("<H", content, fields)[0] < 6 + 2 * number:
        raise ValueError("a field is missing")
    offset = struct.unpack_from("<H", content, fields + 4 + 2 * number)[0]
    if not offset:
        raise ValueError("a field is missing")
    return table + int(offset)


def _items(content: bytes, field: int) -> range:
    """The places of the elements of a vector, of 4 bytes each."""
    vector = _follow(content, field)
    count = struct.unpack_from("<I", content, vector)[0]
    if vector + 4 + 4 * count > len(content):
        raise ValueError("cut off")
    return range(vector + 4, vector + 4 + 4 * count, 4)


def _numbers(content: bytes, field: int) -> list[int]:
    return [struct.unpack_from("<i", content, place)[0] for place in _items(content, field)]
