"""Frames a second of `ferryman run`'s pipeline beside the bare model's, on real video, interleaved.

    python benchmarks/cameras.py BUNDLE VIDEO [--rounds 5] [--frames 300] [--cameras 4]

The bare model runs one tensor over and over, as fast as it can: the limit. The pipeline decodes the video, prepares,
asks, finishes, and hands every answer on. What was predicted: at 1 camera 0.95 of the limit on two cores.
"""

import argparse
import itertools
import statistics
import time
from pathlib import Path

from ferryman.bundle.read import load_bundle
from ferryman.cameras.video import VideoCamera
from ferryman.vision.engine import LocalEngine
from ferryman.vision.pipeline import Pipeline, Seen


def bare_fps(engine: LocalEngine, video: str, frames: int) -> float:
    """Time the model alone, on one frame of the video."""
    reader = VideoCamera(source=video).open()
    first = reader.read()
    reader.close()
    assert first is not None
    prepared = engine.prepare([first.picture])
    engine.infer(prepared)
    begun_s = time.perf_counter()
    for _ in range(frames):
        engine.infer(prepared)
    return frames / (time.perf_counter() - begun_s)


def pipeline_fps(engine: LocalEngine, video: str, frames: int, cameras: int) -> tuple[float, float]:
    """Time the answers after the tenth; gives frames a second of all cameras, and the slowest's share of the mean."""
    times: list[float] = []
    counts: dict[str, int] = dict.fromkeys((f"c{number}" for number in range(cameras)), 0)

    def tell(seen: Seen) -> None:
        times.append(time.perf_counter())
        counts[seen.camera] += 1

    sources = {name: VideoCamera(source=video, loop=True) for name in counts}
    with Pipeline(sources, engine, tell):
        while len(times) < frames + 10:
            time.sleep(0.005)
    fair = min(counts.values()) / statistics.mean(counts.values())
    return frames / (times[frames + 9] - times[9]), fair


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("video")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 4, 16])
    args = parser.parse_args()
    engine = LocalEngine(load_bundle(args.bundle))
    ratios: dict[int, list[float]] = {count: [] for count in args.cameras}
    fairness: dict[int, list[float]] = {count: [] for count in args.cameras}
    limits = []
    for _, count in itertools.product(range(args.rounds), args.cameras):
        limit = bare_fps(engine, args.video, args.frames // 2)
        found, fair = pipeline_fps(engine, args.video, args.frames, count)
        limit = (limit + bare_fps(engine, args.video, args.frames // 2)) / 2
        limits.append(limit)
        ratios[count].append(found / limit)
        fairness[count].append(fair)
    print(f"the bare model: {statistics.median(limits):.1f} frames/s (median of {len(limits)})")
    print("| cameras | frames/s of the limit, median (least .. most) | slowest camera of the mean |")
    print("|---|---|---|")
    for count in args.cameras:
        one = sorted(ratios[count])
        print(
            f"| {count} | {statistics.median(one):.3f} ({one[0]:.3f} .. {one[-1]:.3f}) | "
            f"{statistics.median(fairness[count]):.3f} |"
        )


if __name__ == "__main__":
    main()
