"""Which requests' payloads are kept, by the rules of `[monitor.records.payloads]`."""

import math
import zlib
from struct import Struct

from ferryman.core.recording import PayloadsSection

LENGTHS = Struct(">LL")
"""What a payload begins with on its way here: how many bytes say what it is (JSON), and how many it has."""


class PayloadRules:
    """Say of one request why its payload is kept; pure, and cheap enough for every request."""

    def __init__(self, section: PayloadsSection) -> None:
        self._section = section
        self.keep_any = bool(
            section.max_per_day and (section.rate or section.low_confidence or section.drifted or section.error)
        )

    def why(
        self, record_id: str, *, confidence: float | None = None, is_drifted: bool = False, is_error: bool = False
    ) -> str:
        """Give the first rule that holds, or "": error, drifted, low_confidence, rate.

        The rate is drawn by the id, so that a request and what is asked of it again are kept or left together.
        """
        if not self.keep_any:
            return ""
        section = self._section
        if is_error and section.error:
            return "error"
        if is_drifted and section.drifted:
            return "drifted"
        low = section.low_confidence
        if low is not None and confidence is not None and not math.isnan(confidence) and confidence < low:
            return "low_confidence"
        drawn = zlib.crc32(record_id.encode("utf-8", "replace")) / 2**32
        return "rate" if drawn < section.rate else ""
