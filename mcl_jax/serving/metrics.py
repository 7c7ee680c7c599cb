"""Figures about the service for Prometheus; none of them says anything about a person."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_WALKS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counts requests, walks and batches of one service."""

    def __init__(self) -> None:
        """Starts all counts at zero."""
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "mcl_jax_requests",
            "Requests by endpoint and status.",
            ("endpoint", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "mcl_jax_request_seconds",
            "Seconds from the head of a request to the end of its answer.",
            ("endpoint",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram(
            "mcl_jax_batch_walks", "Walks of each batch.", buckets=_WALKS, registry=self._registry
        )
        self._waiting = Gauge("mcl_jax_waiting_walks", "Walks that wait.", registry=self._registry)

    def note_request(self, endpoint: str, status: int, seconds: float) -> None:
        """Counts a request that was answered."""
        self._requests.labels(endpoint, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def note_batch(self, walks: int) -> None:
        """Counts a batch."""
        self._batches.observe(walks)

    def watch_waiting(self, waiting: Callable[[], float]) -> None:
        """Takes the function that says how many walks wait."""
        self._waiting.set_function(waiting)

    def text(self) -> bytes:
        """Returns all figures in Prometheus's text format."""
        return generate_latest(self._registry)
