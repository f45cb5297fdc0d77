"""When nobody is told of alerts: `[[monitor.alerts.maintenance]]` of ferryman.toml."""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?")
_CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d|24:00")


def _moment(text: str) -> str:
    if _CLOCK.fullmatch(text):
        return text
    if not _MOMENT.fullmatch(text):
        raise ValueError('it is no time of day ("02:30") and no moment ("2026-12-24 18:00")')
    datetime.fromisoformat(text)
    return text


def _zone(name: str) -> str:
    try:
        _time_zone(name)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(f"no time zone '{name}' is known here (Europe/Berlin, UTC ...)") from None
    return name


def _time_zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)  # UTC needs no database of zones, which a small image may lack


Moment = Annotated[str, AfterValidator(_moment)]


class MaintenanceSection(BaseModel):
    """Name a window: each week from a time of day to another (over midnight, too), or once from moment to moment."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    start: Moment = Field(alias="from", description='"02:00" (each of `days`), or once: "2026-12-24 18:00".')
    end: Moment = Field(alias="to", description='"04:30", also on the next day; or "2026-12-27 08:00".')
    days: tuple[Weekday, ...] = Field(_DAYS, description="Days on which a window by time of day begins.")
    zone: Annotated[str, AfterValidator(_zone)] = Field("UTC", description="Time zone: Europe/Berlin.")
    models: tuple[str, ...] = Field(("*",), description="Only these models' alerts (* and ?) are kept back.")
    why: str = Field("", description="What is done then.")

    @model_validator(mode="after")
    def _is_one_kind(self) -> "MaintenanceSection":
        daily = [_CLOCK.fullmatch(text) is not None for text in (self.start, self.end)]
        if daily[0] != daily[1]:
            raise ValueError("from and to are both times of day, or both moments")
        if not daily[0] and self._at(self.start) >= self._at(self.end):
            raise ValueError(f"it ends ({self.end}) before it begins ({self.start})")
        return self

    def covers(self, now_s: float) -> bool:
        """Tell whether a Unix time lies in the window; the end itself doesn't."""
        if not _CLOCK.fullmatch(self.start):
            return self._at(self.start) <= now_s < self._at(self.end)
        today = datetime.fromtimestamp(now_s, _time_zone(self.zone)).date()
        for day in (today, today - timedelta(days=1)):  # the window that began yesterday may still be open
            if _DAYS[day.weekday()] not in self.days:
                continue
            begins = self._at(f"{day} {self.start}")
            lasts = day if self.end > self.start else day + timedelta(days=1)
            if begins <= now_s < self._at(f"{lasts} {self.end}"):
                return True
        return False

    def _at(self, moment: str) -> float:
        """Give the Unix time of a moment in the window's zone; one that a clock change skips is where it would be."""
        day, _, clock = moment.replace("T", " ").partition(" ")
        extra = timedelta(days=1) if clock.startswith("24") else timedelta()
        local = datetime.fromisoformat(f"{day} {clock.replace('24:', '00:')}") + extra
        return local.replace(tzinfo=_time_zone(self.zone)).timestamp()
