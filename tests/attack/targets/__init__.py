"""Everything that is attacked, by name.

Pictures, pages and TensorBoard's files are left out: nothing reads them again.
"""

from targets.base import Target
from targets.checkpoint import Journal, Resumed, Weights
from targets.command_line import CommandLine
from targets.files import Embeddings, Packed
from targets.gallery import Gallery
from targets.labels import Partition, Protocol
from targets.names import EnrolledNames, ScoredNames
from targets.native_cache import NativeCache
from targets.network import OnnxNetwork, TfliteNetwork
from targets.records import OtherShards, Records
from targets.video import Playlist, Video
from targets.yaml_config import YamlConfig

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Weights(),
        Resumed(),
        Journal(),
        Packed(),
        Embeddings(),
        Gallery(),
        Records(),
        OtherShards(),
        NativeCache(),
        YamlConfig(),
        Partition(),
        Protocol(),
        CommandLine(),
        ScoredNames(),
        EnrolledNames(),
        Video(),
        Playlist(),
        OnnxNetwork(),
        TfliteNetwork(),
    )
}
