"""What every event looks like on the bus."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from app.events.registry import Payload, name_of, schema_of


class Envelope(BaseModel):
    """An event with its payload still as plain data."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(min_length=1, max_length=120)
    """Unique; the same event published twice keeps it."""
    type: str
    version: int = Field(ge=1)
    time: datetime
    key: str = Field(min_length=1, max_length=120)
    """Events of one key are in order."""
    producer: str
    """Role that made it."""
    payload: dict[str, Any]

    @classmethod
    def of(cls, payload: Payload, *, key: str, producer: str, id: str | None = None) -> "Envelope":
        """Wrap a payload; without an `id` it gets a random one."""
        type_, version = name_of(type(payload))
        return cls(
            id=id or str(uuid4()),
            type=type_,
            version=version,
            time=datetime.now(UTC),
            key=key,
            producer=producer,
            payload=payload.model_dump(mode="json"),
        )

    def encode(self) -> bytes:
        """JSON for the bus."""
        return self.model_dump_json().encode()

    @classmethod
    def decode(cls, value: bytes) -> "Envelope":
        """Read what `encode` made.

        Raises:
            pydantic.ValidationError: it is no event.
        """
        return cls.model_validate_json(value)

    def content(self) -> Payload:
        """The payload, checked against the schema of its type and version.

        Raises:
            KeyError: no such type and version is registered.
            pydantic.ValidationError: the payload does not fit its schema.
        """
        return schema_of(self.type, self.version).model_validate(self.payload)
