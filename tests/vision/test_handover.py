"""Frames from cameras to the model: policies, turns, and ends."""

import threading

import numpy as np

from ferryman.core.camera import Frame
from ferryman.vision.handover import Handover


def frame(number: int) -> Frame:
    return Frame(np.zeros((2, 2, 3), np.uint8), number, 0.0, 0.0)


def test_latest_drops_the_old_frame_and_counts_it() -> None:
    handover = Handover()
    handover.add("a", "latest")
    for number in range(5):
        handover.put("a", frame(number))
    assert [one.number for _, one in handover.take(9)] == [4]
    assert handover.dropped("a") == 4


def test_every_makes_the_camera_wait_and_drops_nothing() -> None:
    handover = Handover()
    handover.add("a", "every")

    def bring() -> None:
        for number in range(50):
            handover.put("a", frame(number))
        handover.end("a")

    thread = threading.Thread(target=bring)
    thread.start()
    taken = []
    while got := handover.take(1):
        taken += [one.number for _, one in got]
    thread.join()
    assert taken == list(range(50))
    assert handover.dropped("a") == 0


def test_cameras_take_turns_however_many_frames_one_has() -> None:
    handover = Handover()
    for name in "abc":
        handover.add(name, "latest")
    order = []
    for number in range(6):
        for name in "abc":
            handover.put(name, frame(number))
        order += [name for name, _ in handover.take(1)]
    assert order == list("abcabc")


def test_a_batch_holds_one_frame_of_each_camera() -> None:
    handover = Handover()
    for name in "abc":
        handover.add(name, "every")
        handover.put(name, frame(0))
        handover.put(name, frame(1))
    assert [name for name, _ in handover.take(2)] == ["a", "b"]
    assert [(name, one.number) for name, one in handover.take(3)] == [("c", 0), ("a", 1), ("b", 1)]


def test_closing_lets_everyone_go() -> None:
    handover = Handover()
    handover.add("a", "every")
    taken: list[object] = []
    thread = threading.Thread(target=lambda: taken.append(handover.take(1)))
    thread.start()
    handover.close()
    thread.join(5)
    assert taken == [[]]
