"""Asks training runs of the tests to end."""

from mcl_jax.runtime.preemption import Preemption


class AfterOneStep(Preemption):
    """Asks a run to end after its first step."""

    stepped = False

    @property
    def requested(self) -> bool:
        return self.stepped

    def note_unsaved_step(self) -> None:
        self.stepped = True
        super().note_unsaved_step()
