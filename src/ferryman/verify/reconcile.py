"""Let a model that somebody else made be asked as the source is: names, order of dimensions."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ferryman.core.errors import InputError, SourceError
from ferryman.core.runtime import Session
from ferryman.core.signature import Array, Signature, Tensors, TensorSpec

Order = tuple[int, ...]
Distance = tuple[int, float]
_MOST_ORDERS = 120
"""Orders that are tried where sizes repeat: all of five equal ones; nobody swaps more, and each is a copy."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Say which tensor of the candidate stands for one of the source's, and how its dimensions are ordered.

    `order` makes the candidate's tensor of the source's, or for outputs the source's of the candidate's.
    """

    name: str
    theirs: str
    order: Order

    @property
    def is_plain(self) -> bool:
        """Tell whether nothing had to be assumed."""
        return self.name == self.theirs and self.order == tuple(range(len(self.order)))


class ReconciledSession:
    """Answer with the candidate, in the source's names and order of dimensions."""

    def __init__(self, session: Session, signature: Signature, pairs: tuple[Sequence[Pair], Sequence[Pair]]) -> None:
        self.signature = signature
        self._session = session
        self._inputs, self._outputs = pairs

    def infer(self, inputs: Tensors) -> dict[str, Array]:
        """Give the source's outputs."""
        self.signature.check(inputs)
        given = self._session.infer(their_inputs(inputs, self._inputs))
        return {pair.name: np.transpose(given[pair.theirs], pair.order) for pair in self._outputs}

    def close(self) -> None:
        """Free the candidate."""
        self._session.close()


def their_inputs(inputs: Tensors, pairs: Sequence[Pair]) -> dict[str, Array]:
    """Give the source's inputs in the candidate's names and order of dimensions."""
    return {pair.theirs: np.ascontiguousarray(np.transpose(inputs[pair.name], pair.order)) for pair in pairs}


def pair_inputs(wanted: Sequence[TensorSpec], theirs: Sequence[TensorSpec]) -> list[Pair]:
    """Pair inputs by name, else by shape; raises SourceError that says what doesn't fit."""
    pairs = _assigned(wanted, theirs, what="input", order_of=_order)
    left = {spec.name for spec in theirs} - {pair.theirs for pair in pairs}
    for spec in theirs:
        if spec.name in left:
            raise SourceError(
                f"the candidate wants an input '{spec.name}' {list(spec.shape)} that the source doesn't have",
                hint="is it made of this source?",
            )
    return pairs


def pair_outputs(wanted: Sequence[TensorSpec], theirs: Sequence[TensorSpec], want: Tensors, got: Tensors) -> list[Pair]:
    """Pair outputs by name, else by shape; raises SourceError that says what doesn't fit.

    `want` and `got` are both models' outputs for one input: where several outputs or orders of dimensions have a
    shape, those with the nearest values are taken.
    """

    def order_of(spec: TensorSpec, found: TensorSpec) -> Order | None:
        return _order(found, spec)

    def distance(spec: TensorSpec, found: TensorSpec) -> Distance:
        return min((away for away, _ in _distances(want[spec.name], got[found.name])), default=(0, np.inf))

    pairs = _assigned(wanted, theirs, what="output", order_of=order_of, distance=distance)
    return [_better(pair, want[pair.name], got[pair.theirs]) for pair in pairs]


def fitting_orders(start: Sequence[int], goal: Sequence[int]) -> Iterator[Order]:
    """Give the orders of dimensions that make one shape of another, those first that change least; not all of many.

    Dimensions of size 1 keep their sequence: swapping them changes nothing.
    """
    if sorted(start) != sorted(goal):
        return iter(())
    return itertools.islice(_extended((), start, goal), _MOST_ORDERS)


def _extended(taken: Order, start: Sequence[int], goal: Sequence[int]) -> Iterator[Order]:
    if len(taken) == len(goal):
        yield taken
        return
    size = goal[len(taken)]
    fits = [axis for axis in range(len(start)) if axis not in taken and start[axis] == size]
    for axis in fits[:1] if size == 1 else fits:
        yield from _extended((*taken, axis), start, goal)


def _better(pair: Pair, want: Array, got: Array) -> Pair:
    # Of equal distances the first, which is the order that changes least.
    found = min(_distances(want, got), key=lambda entry: entry[0], default=None)
    return Pair(pair.name, pair.theirs, found[1]) if found else pair


def _distances(want: Array, got: Array) -> Iterator[tuple[Distance, Order]]:
    """Measure how far one output is from another in every order of dimensions that fits; none for what isn't numbers.

    A distance counts the values that are finite on one side only, and gives the mean difference of the others as a
    share of the wanted values' size.
    """
    if want.dtype.kind not in "fiub" or got.dtype.kind not in "fiub":
        return
    wanted, given = np.asarray(want, np.float64), np.asarray(got, np.float64)
    for order in fitting_orders(got.shape, want.shape):
        turned = np.transpose(given, order)
        finite = np.isfinite(wanted) & np.isfinite(turned)
        strange = ~finite & (wanted != turned) & ~(np.isnan(wanted) & np.isnan(turned))
        size = float(np.abs(wanted[finite]).sum()) or 1.0
        yield (int(strange.sum()), float(np.abs(turned[finite] - wanted[finite]).sum()) / size), order


def _nothing(spec: TensorSpec, found: TensorSpec) -> Distance:
    return 0, 0.0


def _assigned(
    wanted: Sequence[TensorSpec],
    theirs: Sequence[TensorSpec],
    *,
    what: str,
    order_of: Callable[[TensorSpec, TensorSpec], Order | None],
    distance: Callable[[TensorSpec, TensorSpec], Distance] = _nothing,
) -> list[Pair]:
    """Pair by equal names, then nearest first, then in the sequence of both; the pairs come in the wanted sequence."""
    fits = [(spec, found, order) for spec in wanted for found in theirs if (order := order_of(spec, found)) is not None]
    named = {spec.name for spec, found, _ in fits if spec.name == found.name}
    ranked = [entry for entry in fits if entry[0].name == entry[1].name]
    others = [entry for entry in fits if not {entry[0].name, entry[1].name} & named]
    ranked += sorted(others, key=lambda entry: distance(entry[0], entry[1]))
    chosen: dict[str, Pair] = {}
    for spec, found, order in ranked:
        if spec.name not in chosen and all(found.name != pair.theirs for pair in chosen.values()):
            chosen[spec.name] = Pair(spec.name, found.name, order)
    for spec in wanted:
        if spec.name not in chosen:
            has = ", ".join(f"{one.name} {list(one.shape)}" for one in theirs) or "none"
            raise SourceError(
                f"the candidate has no {what} like '{spec.name}' {list(spec.shape)}: it has {has}",
                hint="is it made of this source, for this size of input?",
            )
    return [chosen[spec.name] for spec in wanted]


def _order(start: TensorSpec, goal: TensorSpec) -> Order | None:
    """Give the order of dimensions that makes one shape of the other; the batch, a free or fixed 1, stays in front."""
    if len(start.shape) != len(goal.shape):
        return None
    if not goal.shape:
        return ()
    sizes, wanted = ([size if isinstance(size, int) else -1 for size in spec.shape] for spec in (start, goal))
    for first, size in enumerate(sizes):
        if -1 in (size, wanted[0]) or size == wanted[0]:
            others = [axis for axis in range(len(sizes)) if axis != first]
            for order in fitting_orders([sizes[axis] for axis in others], wanted[1:]):
                return (first, *(others[place] for place in order))
    return None


def assumptions(pairs: Sequence[Pair], what: str) -> list[str]:
    """Say in words what was assumed of names and orders."""
    told = []
    for pair in pairs:
        if not pair.is_plain:
            turned = (
                "" if pair.order == tuple(range(len(pair.order))) else f", its dimensions in the order {pair.order}"
            )
            told.append(f"{what} '{pair.name}' is taken to be its '{pair.theirs}'{turned}")
    return told


def refuse_batch(signature: Signature, theirs: Signature) -> None:
    """Raise InputError where the candidate takes another number of samples at once than can be given."""
    mine, own = signature.max_batch, theirs.max_batch
    if own is not None and own != (mine or 1):
        raise InputError(
            f"the candidate takes {own} samples at once, the source {mine or 'any number'}",
            hint="export the candidate for one sample, or with a free batch",
        )
