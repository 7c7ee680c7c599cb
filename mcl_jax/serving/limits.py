"""Limits of the service: sizes, counts and times beyond which a request is refused."""

import dataclasses

from mcl_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Limits:
    """Maximum sizes, counts and times of the service.

    Attributes:
        min_frames: silhouettes that a walk needs.
        body_bytes: of a request; also what the arrays in it may unpack to.
        held_bytes: of all requests together.
        walks: of a request.
        entries: of a zip file.
        pixels: of all raw frames of a request.
        waiting: walks that wait for the model.
        batch_frames: of a batch, as many as an ordinary batch of `mcl_jax.Gait.embed` has.
        decoding: requests whose walks are unpacked at a time.
        connections: open at a time; while there are so many, uvicorn answers each request with 503.
        seconds: for a client to send its request, or to take the answer.
        leaving_seconds: for requests in flight, once the service is asked to end.
    """

    min_frames: int
    body_bytes: int = 2**24
    held_bytes: int = 2**28
    walks: int = 16
    entries: int = 4096
    pixels: int = 2**31
    waiting: int = 256
    batch_frames: int = 1024
    decoding: int = 2
    connections: int = 512
    seconds: float = 30.0
    leaving_seconds: float = 60.0


class RequestError(UserError):
    """A request that is refused.

    Attributes:
        status: HTTP status of the answer; the message is its line.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


def too_large(limits: Limits) -> RequestError:
    """Returns the refusal of a body that is too large."""
    return RequestError(413, f"the body is larger than {limits.body_bytes} bytes; send fewer walks at once")
