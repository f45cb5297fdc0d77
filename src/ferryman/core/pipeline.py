"""How cameras' frames become answers: which model, asked where, by how many at once."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

Share = Annotated[float, Field(ge=0, le=1)]


class PipelineSection(BaseModel):
    """Be the `[pipeline]` section of ferryman.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    infer: tuple[str, ...] = Field(
        ("local",),
        description="Where the model is asked: local (in this process), or the addresses of V2 servers, of which the "
        "next is asked when one fails.",
    )
    bundle: str = Field("", description="The bundle to load; dist/NAME beside ferryman.toml by default.")
    model: str = Field("", description="The model's name on the servers; [model] name by default.")
    labels: tuple[str, ...] = Field((), description="Only things of these classes; all by default.")
    min_score: Share = Field(0.3, description="Boxes of less than this are left out.")
    batch: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="Most frames, of different cameras, in one call of the model."
    )
    threads: Annotated[int, Field(ge=0, le=1024)] = Field(
        0, description="Cores of one call; 0: as many as the bundle was built for."
    )
    patience_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        10.0, description="Ask servers for so long before a frame is given up."
    )

    @field_validator("infer", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:  # raw TOML
        return (value,) if isinstance(value, str) else value

    @field_validator("infer")
    @classmethod
    def _one_kind(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [one for one in value if one != "local" and not one.startswith(("http://", "https://"))]
        if not value or wrong or ("local" in value and len(value) > 1):
            raise ValueError('it must be "local", or one or more of http://HOST:PORT')
        return value
