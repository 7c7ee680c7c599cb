"""Forms of the answers, which the OpenAPI page describes."""

from pydantic import BaseModel, Field


class ErrorAnswer(BaseModel):
    """A request that was refused."""

    error: str = Field(description="one line: the mistake, and the remedy")


class HealthAnswer(BaseModel):
    """The service is up."""

    status: str


class Embedding(BaseModel):
    """A walk and its embedding."""

    walk: str = Field(description="name of the file, as it was sent")
    frames: int = Field(description="silhouettes that count, 720 at most")
    embedding: list[list[float]] = Field(description="[parts, channels]")


class EmbedAnswer(BaseModel):
    """Embeddings of walks."""

    model: str = Field(description="digest of the model; only embeddings of one model can be compared")
    walks: list[Embedding]


class CompareAnswer(BaseModel):
    """The distance between two walks, and the decision."""

    distance: float
    metric: str = Field(description='"euc" or "cos"')
    same: bool | None = Field(description="whether one person made both; null without a threshold")
    threshold: float | None = Field(description="the largest distance that counts as one person")
    far: float | None = Field(description="false-accept rate of one comparison at the threshold")


class Person(BaseModel):
    """A person of the gallery, and the distance of their nearest walk."""

    name: str
    distance: float


class Identified(BaseModel):
    """The nearest people of the gallery, and the decision."""

    walk: str = Field(description="name of the file, as it was sent")
    matches: list[Person]
    name: str | None = Field(description="who it is; null for nobody enrolled, or if nothing was decided")
    threshold: float | None
    far: float | None
    walks: int = Field(description="walks of the gallery that this one was compared with")
    decided: bool = Field(description="whether there was a threshold to decide with")


class IdentifyAnswer(BaseModel):
    """An answer for each walk."""

    walks: list[Identified]


class EnrollAnswer(BaseModel):
    """The gallery after an enrolment."""

    name: str = Field(description="the name as the gallery has it")
    walks: int = Field(description="walks of this person")
    people: int = Field(description="people of the gallery")
