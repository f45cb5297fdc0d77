"""Train a changed network until it answers as the one it was made of. Runs in the toolchain "torch".

Both come as lists of ONNX nodes and their constants, cut off behind the last layers with weights ("heads").
"""

import math
import os
import sys
import time
from typing import Any

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # on a busy machine, threads that spin at barriers cost tenfold
import torch

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from learning_network import Network

_WARM_STEPS = 50
_AVERAGED = 0.998
_PATIENCE = 0.1  # how far, of all, the clock may be ahead: equal runs are to end with equal weights
_TOLD_EVERY = 20
_FEATURE_TURNS = 4  # each step compares a fourth of the features: all of them would cost as much as the training
_LEAST_SPREAD = 0.01
_BETA = 0.1  # of standard deviations: below it the loss of regressed numbers is square


def recover(request: "dict[str, Any]", tell: Any) -> "dict[str, Any]":
    """Train `student` towards `teacher`; gives its weights (an average over the last steps) and how it went."""
    torch.set_num_threads(request["threads"])
    torch.manual_seed(request["seed"])
    teacher = Network(request["teacher"], request["fixed_batch"]).eval().requires_grad_(False)
    student = Network(request["student"], request["fixed_batch"], request.get("rounding"))
    pictures = _Samples(request)
    aim = _Aim(request)
    course = _Course(student, request, tell)
    while not course.is_over:
        inputs = pictures.draw()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=request["bfloat16"]):
            with torch.no_grad():
                wanted = teacher(inputs)
            given = student(inputs)
        course.step(aim.loss(wanted, given, course.done))
    return {"weights": course.weights(), "steps": course.count, "seconds": course.seconds, "losses": course.losses}


class _Samples:
    """Draw batches of the user's samples from files, changed a little in ways that no task minds."""

    def __init__(self, request: "dict[str, Any]") -> None:
        self.files = list(request["files"].values())
        self.batch = request["batch"]
        self.noise = request["noise"]
        self.random = np.random.default_rng(request["seed"])
        self.torch = torch.Generator().manual_seed(request["seed"])
        self.order: list[int] = []

    def draw(self) -> "list[torch.Tensor]":
        """Give the next batch of each input; every sample comes once in a round."""
        total = self.files[0]["shape"][0]
        while len(self.order) < self.batch:
            self.order += self.random.permutation(total).tolist()
        chosen, self.order = sorted(self.order[: self.batch]), self.order[self.batch :]
        return [self._changed(torch.from_numpy(_rows(file, chosen))) for file in self.files]

    def _changed(self, values: torch.Tensor) -> torch.Tensor:
        if values.dtype != torch.float16:
            return values
        values = values.float()
        if self.noise and values.dim() == 4:
            gain = 1 + self.noise * (2 * torch.rand((len(values), 1, 1, 1), generator=self.torch) - 1)
            low, high = values.amin(), values.amax()
            values = (values * gain).clamp(low, high).contiguous(memory_format=torch.channels_last)
        return values


class _Aim:
    """Say how far a student is from its teacher, in heads and in features on the way."""

    def __init__(self, request: "dict[str, Any]") -> None:
        self.heads = [
            {"tensor": head["tensor"], "axis": head["axis"], "kinds": torch.from_numpy(np.asarray(head["kinds"]))}
            for head in request["heads"]
        ]
        self.features = [(one["tensor"], one["axis"], torch.from_numpy(one["kept"])) for one in request["features"]]
        self.spread: dict[str, torch.Tensor] = {}
        self.turn = 0

    def loss(self, wanted: "dict[str, Any]", given: "dict[str, Any]", done: float) -> torch.Tensor:
        """Give one number to bring down; `done` is the share of the training that is over: features count less then."""
        sides = (wanted, given)
        pairs = [(head, *(_last(side[head["tensor"]], head["axis"]) for side in sides)) for head in self.heads]
        sure = self._sure(pairs)
        total = torch.zeros(())
        mass = 1 + sum(float(chance.sum()) for chance in sure.values())
        for head, teacher, student in pairs:
            total = total + self._head_loss(head, teacher, student, sure, mass)
        self.turn += 1
        for tensor, axis, kept in self.features[self.turn % _FEATURE_TURNS :: _FEATURE_TURNS]:
            aim = wanted[tensor].index_select(axis, kept).float()
            off = (given[tensor].float() - aim).square().mean() / (aim.square().mean() + 1e-6)
            total = total + _FEATURE_TURNS * (1 - 0.9 * done) * off
        return total

    def _sure(self, pairs: "list[Any]") -> "dict[tuple[int, ...], torch.Tensor]":
        """Give, by grid, how likely the teacher finds something at each place: numbers beside it count by that."""
        sure: dict[tuple[int, ...], torch.Tensor] = {}
        for head, teacher, _ in pairs:
            if (head["kinds"] == 1).any():
                chance = teacher[..., head["kinds"] == 1].sigmoid().amax(-1)
                there = sure.get(tuple(chance.shape))
                sure[tuple(chance.shape)] = chance if there is None else torch.maximum(there, chance)
        return sure

    def _head_loss(self, head: "dict[str, Any]", *rest: Any) -> torch.Tensor:
        teacher, student, sure, mass = rest
        kinds = head["kinds"]
        total = torch.zeros(())
        if (kinds == 1).any():
            aim, logits = teacher[..., kinds == 1].sigmoid(), student[..., kinds == 1]
            cross = torch.nn.functional.binary_cross_entropy_with_logits
            total = (
                total
                + (cross(logits, aim, reduction="sum") - cross(teacher[..., kinds == 1], aim, reduction="sum")) / mass
            )
        if (kinds == 2).any():
            aim, logits = teacher[..., kinds == 2].log_softmax(-1), student[..., kinds == 2].log_softmax(-1)
            places = aim[..., 0].numel()
            total = total + torch.nn.functional.kl_div(logits, aim, reduction="sum", log_target=True) / places
        if (kinds == 0).any():
            total = total + self._numbers(head["tensor"], teacher[..., kinds == 0], student[..., kinds == 0], sure)
        return total

    def _numbers(self, name: str, aim: torch.Tensor, given: torch.Tensor, sure: "dict[Any, Any]") -> torch.Tensor:
        """Compare in standard deviations of each number, at places by how sure the teacher is that they matter."""
        weight = sure.get(tuple(aim.shape[:-1]), torch.ones(aim.shape[:-1]))[..., None]
        if name not in self.spread:
            axes = tuple(range(aim.dim() - 1))
            mean = (aim * weight).sum(axes) / weight.sum()
            spread = (((aim - mean).square() * weight).sum(axes) / weight.sum()).sqrt()
            least = _LEAST_SPREAD * (mean.abs().amax() + spread.amax())  # what hardly varies isn't to outweigh the rest
            self.spread[name] = spread.clamp(min=float(least) + 1e-6)
        scaled = [side / self.spread[name] for side in (given, aim)]
        off = torch.nn.functional.smooth_l1_loss(*scaled, reduction="none", beta=_BETA)
        return (off * weight).sum() / (weight.sum() + 1e-6)


class _Course:
    """Take the steps: warm up, then slower and slower until steps or minutes are over."""

    def __init__(self, student: Network, request: "dict[str, Any]", tell: Any) -> None:
        self.student, self.request, self.tell = student, request, tell
        self.optimizer = torch.optim.AdamW(student.parameters(), lr=request["rate"], weight_decay=0.01)
        self.masks = {name: torch.from_numpy(mask) for name, mask in request["masks"].items()}
        self._mask()  # also before the first step: the average starts here
        self.average = {name: value.detach().clone() for name, value in student.named_parameters()}
        self.count = 0
        self.losses: list[float] = []
        self._recent: list[float] = []
        self._is_slow = False
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """Give how long this takes already."""
        return time.monotonic() - self._begun

    @property
    def done(self) -> float:
        """Give the share of the training that is over: by steps, and by the clock only where steps come too slowly."""
        spent = self.seconds / (60 * self.request["minutes"])
        by_steps = self.count / self.request["steps"]
        self._is_slow = self._is_slow or (self.count >= _WARM_STEPS and spent > by_steps + _PATIENCE) or spent >= 1
        return float(min(1.0, max(by_steps, spent) if self._is_slow else by_steps))

    @property
    def is_over(self) -> bool:
        """Tell whether steps or minutes are used up."""
        return self.done >= 1

    def step(self, loss: torch.Tensor) -> None:
        """Learn from one batch."""
        rate = self.request["rate"] * min(1.0, (self.count + 1) / _WARM_STEPS) * (1 + math.cos(math.pi * self.done)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        value = float(loss.detach())
        if not math.isfinite(value):
            raise Refused("the training diverged: its loss is no number any more", hint="a lower rate, or more samples")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 10.0)
        self.optimizer.step()
        self.count += 1
        keep = min(_AVERAGED, self.count / (self.count + 20))
        self._mask()
        with torch.no_grad():
            for name, parameter in self.student.named_parameters():
                self.average[name].mul_(keep).add_(parameter, alpha=1 - keep)
        self._note(value)

    def _mask(self) -> None:
        with torch.no_grad():
            for name, parameter in self.student.named_parameters():
                if (mask := self.masks.get(self.student.onnx_names[name])) is not None:
                    parameter.mul_(mask)

    def _note(self, value: float) -> None:
        self._recent.append(value)
        if self.count % _TOLD_EVERY == 0 or self.is_over:
            self.losses.append(sum(self._recent) / len(self._recent))
            self._recent.clear()
            self.tell("recover", done=round(100 * self.done), total=100, note=f"loss {self.losses[-1]:.4f}")

    def weights(self) -> "dict[str, Any]":
        """Give the averaged weights by the names of the graph."""
        return {self.student.onnx_names[name]: value.numpy() for name, value in self.average.items()}


def _rows(file: "dict[str, Any]", chosen: "list[int]") -> Any:  # an array
    """Read some samples; not by a memory map, whose pages would count as memory that this process holds."""
    dtype, shape = np.dtype(file["dtype"]), file["shape"][1:]
    count = math.prod(shape)
    rows = [np.fromfile(file["path"], dtype, count, offset=index * count * dtype.itemsize) for index in chosen]
    return np.stack(rows).reshape(len(chosen), *shape)


def _last(value: torch.Tensor, axis: int) -> torch.Tensor:
    """Give a head's answer with its channels last."""
    return value.float().movedim(axis, -1)
