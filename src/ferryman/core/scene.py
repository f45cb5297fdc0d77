"""What is looked for in a camera's picture: lines that are crossed, zones, parts on a belt, heat; and what is kept."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Point = tuple[float, float]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LineSection(_Section):
    """Count what crosses a line; seen from its first point to its second, "in" is from left to right."""

    points: tuple[Point, Point] = Field(description="Its two ends, in pixels of the camera's picture.")
    labels: tuple[str, ...] = Field((), description="Only things of these classes.")
    band: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        8.0, description="So many pixels beyond the line a thing must come before it has crossed: no double counts."
    )
    anchor: Literal["center", "bottom"] = Field("bottom", description="The point of a box that crosses.")

    @model_validator(mode="after")
    def _has_length(self) -> "LineSection":
        if self.points[0] == self.points[1]:
            raise ValueError(f"both ends of the line are {list(self.points[0])}: it needs two points")
        return self


class ZoneSection(_Section):
    """Watch a polygon: how many are in it, and how long each stays."""

    points: tuple[Point, ...] = Field(min_length=3, description="Its corners, in pixels of the camera's picture.")
    labels: tuple[str, ...] = Field((), description="Only things of these classes.")
    linger_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        1.0, description="Who is out of the zone, or out of sight, for less than this, has not left it."
    )
    queue_s: Positive | None = Field(None, description="Who stays longer than this counts as queueing.")
    anchor: Literal["center", "bottom"] = Field("bottom", description="The point of a box that is in or out.")


class HeatSection(_Section):
    """Add up where things stand."""

    cell: Annotated[int, Field(ge=1, le=256)] = Field(8, description="Size of a cell, in pixels (or floor units).")
    half_life_s: Positive | None = Field(None, description="After so long a visit counts half; never by default.")
    floor: tuple[Point, Point, Point, Point] | None = Field(
        None,
        description="Four points of the picture that are a rectangle on the floor, clockwise from its far left corner: "
        "the heat is then drawn as seen from above.",
    )
    floor_size: tuple[Positive, Positive] | None = Field(
        None, description="Width and depth of that rectangle, in floor units (centimetres, say)."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> "HeatSection":
        if (self.floor is None) != (self.floor_size is None):
            raise ValueError("floor and floor_size go together")
        return self


class PartsSection(_Section):
    """Judge parts that pass on a belt: one decision for each, from all frames that show it."""

    axis: Literal["right", "left", "down", "up"] = Field("right", description="Where the belt moves in the picture.")
    decide_at: Positive = Field(
        description="Where a part's leading edge is when it is decided, in pixels along that way."
    )
    length: Positive = Field(description="A part's length along the belt, in pixels.")
    pitch: Positive | None = Field(None, description="From one part to the next, in pixels; its length by default.")
    reject: tuple[str, ...] = Field((), description="Classes that reject a part; all that the model knows by default.")
    min_votes: Annotated[int, Field(ge=1)] = Field(
        1, description="A defect must be seen on so many frames before it rejects."
    )
    speed_px_s: Positive | None = Field(None, description="The belt's speed; found from the tracks by default.")
    actuator_px: Positive | None = Field(
        None, description="Way from `decide_at` to the ejector, in pixels: with the speed it gives the time to act."
    )


class PrivacySection(_Section):
    """Say what may be seen or kept of pictures."""

    pictures: Literal["keep", "blur", "none"] = Field(
        "keep",
        description="In previews and stored pictures: keep shows them, blur makes people unknowable, none shows and "
        "stores no picture at all, counts only.",
    )
    labels: tuple[str, ...] = Field(("person", "face"), description="What is blurred.")


class SceneSection(_Section):
    """Be a `[scene.CAMERA]` section of ferryman.toml: what is looked for in that camera's picture."""

    lines: dict[str, LineSection] = Field(default_factory=dict, description="Lines to count at, by their names.")
    zones: dict[str, ZoneSection] = Field(default_factory=dict, description="Zones to watch, by their names.")
    heat: HeatSection | None = Field(None, description="Where things stand, as a heatmap.")
    parts: PartsSection | None = Field(None, description="Parts on a belt.")
    privacy: PrivacySection = Field(PrivacySection(), description="What may be seen of pictures.")
    counts_s: Positive = Field(60.0, description="So often the counts are told as an event, in seconds.")
