"""What is kept of requests, for how long, and who else gets it: `[monitor.records]` of ferryman.toml."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

_Positive = Annotated[float, Field(gt=0)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Secret = Annotated[str, Field(pattern=r"^(env|file):.+$")]
_Url = Annotated[str, Field(pattern=r"^https?://\S+$")]


class PayloadsSection(BaseModel):
    """Say of which requests the payload itself is kept, and what is made unreadable first; by default of none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: _Share = Field(0.0, description="Share of all requests whose payload is kept, drawn by their ids.")
    low_confidence: _Share | None = Field(None, description="Keep the payload of an answer whose confidence is below.")
    drifted: bool = Field(False, description="Keep payloads while their model's inputs drift.")
    error: bool = Field(False, description="Keep payloads of requests that failed.")
    max_per_day: Annotated[int, Field(ge=0)] = Field(1000, description="Most payloads of one day, of all rules.")
    max_mb: _Positive = Field(200.0, description="Largest size of all payloads, in 10^6 bytes; the oldest go first.")
    keep_days: _Positive = Field(7.0, description="Payloads that are older are deleted.")
    drop: tuple[str, ...] = Field((), description="Fields of rows and answers that are left out, at any depth.")
    hash: tuple[str, ...] = Field(
        (), description="Fields that are replaced by a keyed digest (HMAC-SHA256): equal values stay equal, unreadable."
    )
    pictures: Literal["none", "blurred", "downscaled", "whole"] = Field(
        "downscaled", description="What is kept of a picture; `whole` is as large as it came, without its metadata."
    )
    picture_side: Annotated[int, Field(ge=8, le=4096)] = Field(
        320, description="Longest side of a picture that is downscaled or blurred, in pixels."
    )


class DirectorySink(BaseModel):
    """Copy sealed Parquet files to another folder, such as a mounted share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["directory"]
    path: str = Field(description="The folder; made where it is not there.")
    max_mb: _Positive = Field(1000.0, description="Most that waits while it can't be reached, in 10^6 bytes.")


class ObjectsSink(BaseModel):
    """Put sealed Parquet files into S3, Google Cloud Storage or Azure Blob Storage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["objects"]
    url: Annotated[str, Field(pattern=r"^(s3|gs|gcs|az|abfs|abfss|azure|https?)://\S+$")] = Field(
        description="s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX."
    )
    options: dict[str, str] = Field(
        default_factory=dict, description="Options of the store (endpoint, region); secrets as env:NAME or file:PATH."
    )
    max_mb: _Positive = Field(1000.0, description="Most that waits while it can't be reached, in 10^6 bytes.")


class CloudEventsSink(BaseModel):
    """Post each record as a CloudEvent over HTTP."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["cloudevents"]
    url: _Url = Field(description="Where events are posted to.")
    mode: Literal["structured", "binary", "batched"] = Field(
        "batched", description="One event a request as JSON or with its fields in headers, or many as a JSON list."
    )
    source: str = Field("ferryman", min_length=1, description="The events' `source`.")
    token: _Secret | None = Field(None, description="A bearer token: env:NAME or file:PATH.")
    timeout_s: _Positive = Field(10.0, description="Longest time of one request.")
    max_mb: _Positive = Field(200.0, description="Most that waits while it can't be reached, in 10^6 bytes.")


class KafkaSink(BaseModel):
    """Produce each record to a Kafka topic as a CloudEvent in JSON, keyed by its id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["kafka"]
    servers: Annotated[str, Field(min_length=1)] = Field(description="host:port of brokers, with commas between.")
    topic: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
    source: str = Field("ferryman", min_length=1, description="The events' `source`.")
    options: dict[str, str] = Field(
        default_factory=dict, description="Options of librdkafka (sasl.username); secrets as env:NAME or file:PATH."
    )
    timeout_s: _Positive = Field(30.0, description="Longest time until the brokers have acknowledged a batch.")
    max_mb: _Positive = Field(200.0, description="Most that waits while it can't be reached, in 10^6 bytes.")


SinkSection = Annotated[DirectorySink | ObjectsSink | CloudEventsSink | KafkaSink, Field(discriminator="kind")]


class RecordsSection(BaseModel):
    """Say what a server that is given a place for records keeps there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep_days: _Positive = Field(30.0, description="Records that are older are deleted.")
    max_mb: _Positive = Field(1000.0, description="Largest size of all records, in 10^6 bytes; the oldest go first.")
    min_free_mb: Annotated[float, Field(ge=0)] = Field(
        100.0, description="Records are dropped, and counted, while the disk has less room than this, in 10^6 bytes."
    )
    seal_mb: _Positive = Field(8.0, description="A journal of this size becomes Parquet, in 10^6 bytes.")
    seal_minutes: _Positive = Field(60.0, description="A journal of this age becomes Parquet.")
    payloads: PayloadsSection = PayloadsSection()
    sinks: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")], SinkSection] = Field(
        default_factory=dict, description="Who else gets the records: [monitor.records.sinks.NAME]."
    )
