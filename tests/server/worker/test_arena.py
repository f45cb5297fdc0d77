"""Shared memory: blocks never overlap, and all of it comes back."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferryman.core.errors import Overloaded
from ferryman.server.data.worker.arena import Arena, make_arena_file, map_arena

_SIZE = 1 << 16


def _arena(size_bytes: int = _SIZE) -> Arena:
    file = make_arena_file(size_bytes)
    try:
        return Arena(file, size_bytes)
    finally:
        os.close(file)


@given(st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 30)), max_size=60))
def test_blocks_never_overlap_and_all_of_it_comes_back(steps: list[tuple[int, int]]) -> None:
    arena = _arena()
    blocks: dict[int, int] = {}
    for size, which in steps:
        if which < len(blocks):
            offset = list(blocks)[which]
            del blocks[offset]
            arena.free(offset)
            continue
        try:
            offset = arena.allocate(size)
        except Overloaded:
            continue
        assert offset + size <= _SIZE
        assert all(offset + size <= other or other + length <= offset for other, length in blocks.items())
        blocks[offset] = max(size, 1)
    for offset in list(blocks):
        arena.free(offset)
    assert arena.used_bytes == 0
    assert arena.allocate(_SIZE) == 0


def test_a_full_arena_says_so_and_takes_more_after_a_block_is_freed() -> None:
    arena = _arena()
    block = arena.allocate(_SIZE // 2)
    arena.allocate(_SIZE // 4)
    with pytest.raises(Overloaded, match="don't fit"):
        arena.allocate(_SIZE // 2)
    arena.free(block)
    assert arena.allocate(_SIZE // 2) == block


def test_a_block_is_freed_once() -> None:
    arena = _arena()
    block = arena.allocate(10)
    arena.free(block)
    with pytest.raises(ValueError, match="no block"):
        arena.free(block)


def test_both_sides_see_the_same_and_neither_can_cut_it() -> None:
    file = make_arena_file(_SIZE)
    try:
        arena, other = Arena(file, _SIZE), map_arena(file)
        with pytest.raises(PermissionError):
            os.ftruncate(file, 0)
    finally:
        os.close(file)
    block = arena.allocate(4)
    arena.buffer[block : block + 4] = b"here"
    assert bytes(other[block : block + 4]) == b"here"


def test_memory_goes_back_to_the_system_when_the_arena_is_empty() -> None:
    size = 64 << 20
    file = make_arena_file(size)
    try:
        arena = Arena(file, size)
        block = arena.allocate(size)
        arena.buffer[:size] = bytes(size)
        assert os.fstat(file).st_blocks * 512 >= size
        arena.free(block)
        assert os.fstat(file).st_blocks * 512 <= 8 << 20
    finally:
        os.close(file)
