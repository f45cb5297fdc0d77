"""When a frame was captured, from a stream's own time stamps and the moments when frames come in."""

_JUMP_S = 2.0
_DRIFT = 1e-4  # a camera's clock may run slower than ours by so much: seconds in a second


class CaptureClock:
    """Map a stream's time to `time.monotonic()`: a frame that waited on its way is older than one that came at once.

    The least of (arrival - media time) seen so far is taken for the way without waiting, as one-way delay filters do
    (RFC 5905's clock filter takes the sample of least delay); it may grow with the drift of two clocks.
    """

    def __init__(self) -> None:
        self._offset_s: float | None = None
        self._media_s = 0.0

    def captured_s(self, media_s: float, arrived_s: float) -> float:
        """Give the moment of capture of a frame of `media_s` that came in at `arrived_s`; never after it."""
        now_s = arrived_s - media_s
        step_s = media_s - self._media_s
        if self._offset_s is None or step_s < 0 or step_s > _JUMP_S:
            self._offset_s = now_s  # a new stream, or one that has jumped
        self._offset_s = min(self._offset_s + _DRIFT * max(step_s, 0.0), now_s)
        self._media_s = media_s
        return media_s + self._offset_s
