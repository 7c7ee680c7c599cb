"""All targets of an attack, by name.

Pictures, pages and TensorBoard's files are left out: nothing reads them again.
"""

import importlib

from targets.base import Target

# Name → module and class; imported when they are attacked, as some need much.
TARGETS = {
    "checkpoint": ("checkpoint", "Weights"),
    "resume": ("checkpoint", "Resumed"),
    "journal": ("checkpoint", "Journal"),
    "packed": ("files", "Packed"),
    "safetensors": ("files", "ModelFile"),
    "embeddings": ("files", "Embeddings"),
    "reproduction": ("files", "Record"),
    "gallery": ("gallery", "Gallery"),
    "records": ("records", "Records"),
    "shards": ("records", "OtherShards"),
    "native": ("native_cache", "NativeCache"),
    "sequences": ("foreign", "Sequences"),
    "frames": ("foreign", "Frames"),
    "foreign": ("foreign", "Checkpoints"),
    "yaml": ("yaml_config", "YamlConfig"),
    "partition": ("labels", "Partition"),
    "protocol": ("labels", "Protocol"),
    "commands": ("command_line", "CommandLine"),
    "names": ("names", "ScoredNames"),
    "people": ("names", "EnrolledNames"),
    "video": ("video", "Video"),
    "playlist": ("video", "Playlist"),
    "onnx": ("network", "OnnxNetwork"),
    "tflite": ("network", "TfliteNetwork"),
}


def target_of(name: str) -> Target:
    """Returns a target by its name."""
    module, kind = TARGETS[name]
    target: Target = getattr(importlib.import_module(f"targets.{module}"), kind)()
    return target
