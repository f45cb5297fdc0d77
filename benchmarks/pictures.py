"""Compare what decodes and resizes pictures, turn by turn: `python benchmarks/pictures.py`."""

import statistics
import time
from collections.abc import Callable

import numpy as np

from ferryman.tasks.headers import read_header
from ferryman.tasks.pixels import ENGINES, PictureEngine

SIZES = ((480, 640), (1080, 1920))
SIDE = 416
ROUNDS = 60


def photo(height: int, width: int) -> bytes:
    """Make a JPEG with the detail of a photograph, at quality 90."""
    import cv2

    coarse = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    pixels = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())


def took_ms(work: Callable[[], object]) -> float:
    """Time one call."""
    began_s = time.perf_counter()
    work()
    return (time.perf_counter() - began_s) * 1e3


def main() -> None:
    """Print the median of each part, and the ratio to OpenCV's."""
    import cv2

    cv2.setNumThreads(1)
    print(f"{'picture':<12} {'part':<8} " + " ".join(f"{name:>10}" for name in ENGINES) + "      ratio")
    for height, width in SIZES:
        content = photo(height, width)
        header = read_header(content)
        scale = min(SIDE / height, SIDE / width)
        size = (round(height * scale), round(width * scale))
        pixels = next(iter(ENGINES.values())).decode(content, header)
        parts: dict[str, Callable[[PictureEngine], object]] = {
            "decode": lambda engine, content=content, header=header: engine.decode(content, header),
            "resize": lambda engine, pixels=pixels, size=size: engine.resize(pixels, *size, "bilinear"),
        }
        for part, work in parts.items():
            times: dict[str, list[float]] = {name: [] for name in ENGINES}
            for _ in range(ROUNDS):
                for name, engine in ENGINES.items():
                    times[name].append(took_ms(lambda work=work, engine=engine: work(engine)))
            medians = {name: statistics.median(values) for name, values in times.items()}
            shown = " ".join(f"{value:7.2f} ms" for value in medians.values())
            print(f"{width} x {height:<5} {part:<8} {shown} {medians['pillow'] / medians['opencv']:10.1f}")


if __name__ == "__main__":
    main()
