"""Train the demo's defect detector from nothing on drawn pictures, and write it as ONNX."""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ferryman.demo.belt import LABELS, Box, render

SIDE = 320
STRIDES = (8, 16)
MOST_BOXES = 5  # the generator never draws more defects on one picture
TRAINING_SEED = 1_000_000
VALIDATION_SEED = 9_000_000
Predict = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Pictures:
    """Hold drawn pictures (RGB, channels first) and their boxes, padded with label -1."""

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    corners: npt.NDArray[np.float32]


def _draw(seed: int) -> tuple[npt.NDArray[np.uint8], list[Box]]:
    picture, boxes = render(seed, size=SIDE)
    return np.ascontiguousarray(picture[..., ::-1].transpose(2, 0, 1)), boxes


def draw_pictures(first_seed: int, count: int, *, workers: int) -> Pictures:
    """Draw `count` pictures, one seed after the other."""
    pixels = np.empty((count, 3, SIDE, SIDE), np.uint8)
    labels = np.full((count, MOST_BOXES), -1, np.int64)
    corners = np.zeros((count, MOST_BOXES, 4), np.float32)
    with ProcessPoolExecutor(workers) as pool:
        drawn = pool.map(_draw, range(first_seed, first_seed + count), chunksize=16)
        for index, (picture, boxes) in enumerate(drawn):
            pixels[index] = picture
            for slot, box in enumerate(boxes):
                labels[index, slot] = box.label
                corners[index, slot] = box.x1, box.y1, box.x2, box.y2
    return Pictures(pixels, labels, corners)


def unit(before: int, after: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Make a convolution with its normalisation; ReLU because its range survives eight bits."""
    convolution = nn.Conv2d(before, after, kernel, stride, (kernel - 1) // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


class Detector(nn.Module):  # type: ignore[misc]  # torch's own types are not followed
    """Find defects at strides 8 and 16; the answer is laid out as YOLOv8's: boxes in pixels, then scores."""

    def __init__(self) -> None:
        super().__init__()
        # One wide step from 320 to 80: a stage at 160 would cost as much as all the rest and see little more.
        self.shallow = nn.Sequential(unit(3, 32, 6, 4), unit(32, 32), unit(32, 48, stride=2), unit(48, 48))
        self.deep = nn.Sequential(unit(48, 64, stride=2), unit(64, 64))
        self.narrow, self.widen = unit(64, 32, 1), unit(128, 64, 1)
        self.pool = nn.MaxPool2d(5, 1, 2)
        # Not a resize: shape inference in ONNX Runtime loses a free batch size in one.
        self.lift, self.up = unit(64, 96, 1), nn.PixelShuffle(2)
        self.fuse_fine = nn.Sequential(unit(72, 48, 1), unit(48, 48))
        self.down = unit(48, 48, stride=2)
        self.fuse_coarse = unit(112, 64, 1)
        self.towers = nn.ModuleList([unit(48, 48), unit(64, 48)])
        self.boxes = nn.ModuleList([nn.Conv2d(48, 4, 1) for _ in STRIDES])
        self.scores = nn.ModuleList([nn.Conv2d(48, len(LABELS), 1) for _ in STRIDES])
        for head in self.scores:
            # Nearly every place is background: starting at 1 % keeps the first steps calm.
            assert isinstance(head, nn.Conv2d) and head.bias is not None
            nn.init.constant_(head.bias, -4.6)
        centres, strides = _places()
        self.centres: Tensor
        self.strides: Tensor
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("strides", strides, persistent=False)

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes [N, 4, A] in pixels (centre, size) and score logits [N, classes, A]."""
        fine = self.shallow(images)
        pools = [self.narrow(self.deep(fine))]
        for _ in range(3):
            pools.append(self.pool(pools[-1]))
        coarse = self.widen(torch.cat(pools, 1))
        fine = self.fuse_fine(torch.cat([self.up(self.lift(coarse)), fine], 1))
        coarse = self.fuse_coarse(torch.cat([self.down(fine), coarse], 1))
        features = [tower(level) for tower, level in zip(self.towers, (fine, coarse), strict=True)]
        offsets = torch.cat([head(f).flatten(2) for head, f in zip(self.boxes, features, strict=True)], 2)
        scores = torch.cat([head(f).flatten(2) for head, f in zip(self.scores, features, strict=True)], 2)
        offsets = offsets.float()
        middle = self.centres + offsets[:, :2] * self.strides
        size = offsets[:, 2:].exp() * self.strides
        return torch.cat([middle, size], 1), scores.float()

    def forward(self, images: Tensor) -> Tensor:
        """Return f32[N, 4 + classes, A]."""
        boxes, scores = self.raw(images)
        return torch.cat([boxes, scores.sigmoid()], 1)


def _places() -> tuple[Tensor, Tensor]:
    centres, strides = [], []
    for stride in STRIDES:
        at = (torch.arange(SIDE // stride) + 0.5) * stride
        ys, xs = torch.meshgrid(at, at, indexing="ij")
        centres.append(torch.stack([xs.flatten(), ys.flatten()]))
        strides.append(torch.full((1, xs.numel()), float(stride)))
    return torch.cat(centres, 1), torch.cat(strides, 1)


def corners_of(boxes: Tensor) -> Tensor:
    """Turn centre and size [N, 4, A] into corners [N, A, 4]."""
    middle, half = boxes[:, :2], boxes[:, 2:] / 2
    return torch.cat([middle - half, middle + half], 1).transpose(1, 2)


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Return the IoU of corner boxes, broadcast against each other."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = a.unbind(-1), b.unbind(-1)
    wide = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    tall = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    shared = wide * tall
    return shared / ((ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - shared + 1e-6)


def complete_overlap(a: Tensor, b: Tensor) -> Tensor:
    """Return the complete IoU (Zheng et al. 2020), which also pulls boxes that do not touch."""
    iou = overlap(a, b)
    size_a, size_b = a[..., 2:] - a[..., :2], b[..., 2:] - b[..., :2]
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    apart = ((a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2).square().sum(-1)
    turn_a = torch.atan(size_a[..., 0] / (size_a[..., 1] + 1e-6))
    turn_b = torch.atan(size_b[..., 0] / (size_b[..., 1] + 1e-6))
    aspect = (4 / torch.pi**2) * (turn_a - turn_b).square()
    weight = (aspect / (1 - iou + aspect + 1e-6)).detach()
    return iou - apart / (hull.square().sum(-1) + 1e-6) - weight * aspect


def assign(scores: Tensor, boxes: Tensor, centres: Tensor, labels: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Choose the places that answer for each defect, as TOOD does (Feng et al. 2021).

    Returns the index of the defect [N, A] (-1 for background) and the score [N, A] that the place should reach.
    """
    middle = (truth[..., :2] + truth[..., 2:]) / 2
    # A defect smaller than the grid must still own some places, so its half side counts as at least 8 pixels.
    half = ((truth[..., 2:] - truth[..., :2]) / 2).clamp(min=8.0)
    near = ((centres.T[None, None] - middle[:, :, None]).abs() < half[:, :, None]).all(-1)
    near &= (labels >= 0)[:, :, None]
    iou = overlap(truth[:, :, None], boxes[:, None]).clamp(min=1e-4)
    chance = scores.sigmoid().gather(1, labels.clamp(min=0)[:, :, None].expand(-1, -1, scores.shape[2]))
    fit = chance.sqrt() * iou**4 * near
    best = fit.topk(8, dim=2)
    chosen = torch.zeros_like(fit).scatter(2, best.indices, (best.values > 0).float()) > 0
    rivals = torch.where(chosen, iou, torch.zeros_like(iou))
    owner = rivals.argmax(1)
    is_owned = rivals.max(1).values > 0
    fit = fit * chosen
    worth = fit / fit.amax(2, keepdim=True).clamp(min=1e-12) * rivals.amax(2, keepdim=True)
    worth = worth.gather(1, owner[:, None])[:, 0]
    return torch.where(is_owned, owner, torch.full_like(owner, -1)), worth * is_owned


def loss_of(model: Detector, images: Tensor, labels: Tensor, truth: Tensor) -> Tensor:
    """Return the loss of one batch: the box's complete IoU and the score's cross entropy."""
    boxes, scores = model.raw(images)
    corners = corners_of(boxes)
    with torch.no_grad():
        owner, worth = assign(scores, corners, model.centres, labels, truth)
    total = worth.sum().clamp(min=1.0)
    target = torch.zeros_like(scores)
    row, place = (owner >= 0).nonzero(as_tuple=True)
    mine = owner[row, place]
    target[row, labels[row, mine], place] = worth[row, place]
    score_loss = F.binary_cross_entropy_with_logits(scores, target, reduction="sum") / total
    fit = complete_overlap(corners[row, place], truth[row, mine])
    return score_loss + 4.0 * ((1 - fit) * worth[row, place]).sum() / total


def batches(pictures: Pictures, size: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield one epoch, each batch turned or mirrored and each picture's exposure changed."""
    order = rng.permutation(len(pictures.pixels))
    for start in range(0, len(order) - size + 1, size):
        chosen = order[start : start + size]
        gain = torch.from_numpy(rng.uniform(0.75, 1.25, (size, 1, 1, 1)).astype(np.float32))
        images = (torch.from_numpy(pictures.pixels[chosen]).float() / 255 * gain).clamp(0, 1)
        corners = torch.from_numpy(pictures.corners[chosen])
        if rng.random() < 0.5:
            images, corners = images.flip(3), torch.stack(_mirrored(corners, 0), -1)
        if rng.random() < 0.5:
            images, corners = images.flip(2), torch.stack(_mirrored(corners, 1), -1)
        if rng.random() < 0.5:
            images, corners = images.transpose(2, 3), corners[..., [1, 0, 3, 2]]
        yield images.contiguous(memory_format=torch.channels_last), torch.from_numpy(pictures.labels[chosen]), corners


def _mirrored(corners: Tensor, axis: int) -> list[Tensor]:
    parts = list(corners.unbind(-1))
    parts[axis], parts[axis + 2] = SIDE - corners[..., axis + 2], SIDE - corners[..., axis]
    return parts


def train(pictures: Pictures, *, epochs: int, batch: int, seed: int, is_half: bool) -> Detector:
    """Train a detector and return the moving average of its weights."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = Detector()
    model.to(memory_format=torch.channels_last)
    average = copy.deepcopy(model)
    average.requires_grad_(False)
    steps = epochs * (len(pictures.pixels) // batch)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps, pct_start=0.1)
    step, started = 0, time.monotonic()
    for epoch in range(epochs):
        losses = []
        for images, labels, corners in batches(pictures, batch, rng):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_half):
                loss = loss_of(model, images, labels, corners)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimiser.step()
            schedule.step()
            step += 1
            _follow(average, model, min(0.998, step / (step + 20)))
            losses.append(float(loss.detach()))
        print(f"epoch {epoch + 1}/{epochs}: loss {np.mean(losses):.3f}, {time.monotonic() - started:.0f} s", flush=True)
    average.eval()
    return average


def _follow(average: Detector, model: Detector, keep: float) -> None:
    for old, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.mul_(keep).add_(new.detach(), alpha=1 - keep)


def export(model: Detector, path: Path) -> None:
    """Write the detector as one ONNX file with a free batch size."""
    import onnx

    plain = copy.deepcopy(model)
    plain.to(memory_format=torch.contiguous_format).eval()
    for block in plain.modules():
        if isinstance(block, nn.Sequential) and len(block) == 3 and isinstance(block[1], nn.BatchNorm2d):
            block[0], block[1] = nn.utils.fuse_conv_bn_eval(block[0], block[1]), nn.Identity()
    torch.onnx.export(
        plain,
        (torch.zeros(2, 3, SIDE, SIDE),),
        path,
        input_names=["images"],
        output_names=["output0"],
        opset_version=18,
        dynamo=True,
        dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1, max=1024)}},
        external_data=False,
    )
    written = onnx.load(path)
    for node in written.graph.node:
        # The exporter notes the Python stack of every node: a tenth of the file, and our folders in it.
        del node.metadata_props[:]
    onnx.helper.set_model_props(written, {"names": repr(dict(enumerate(LABELS)))})  # as other YOLO exporters do
    onnx.save(written, path)


def load(path: Path) -> Predict:
    """Open an ONNX file with ONNX Runtime on two threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(["output0"], {"images": images})[0], np.float32)


def suppress(
    answer: npt.NDArray[np.float32], *, score: float = 0.01, iou: float = 0.65, most: int = 100
) -> list[tuple[int, float, npt.NDArray[np.float32]]]:
    """Turn one picture's [4 + classes, A] into (label, score, corners), best first, each defect once."""
    found = []
    corners = corners_of(torch.from_numpy(answer[None, :4]))[0]
    for label, scores in enumerate(torch.from_numpy(answer[4:])):
        order = scores.argsort(descending=True)[: int((scores > score).sum())][:300]
        while len(order):
            first, order = order[0], order[1:]
            found.append((label, float(scores[first]), corners[first].numpy()))
            order = order[overlap(corners[first], corners[order]) <= iou]
    return sorted(found, key=lambda item: -item[1])[:most]


def measure(predict: Predict, pictures: Pictures) -> dict[str, float]:
    """Return COCO mAP50-95 and mAP50, and mAP50-95 for each label."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth: list[dict[str, object]] = []
    answers: list[dict[str, object]] = []
    for index, pixels in enumerate(pictures.pixels):
        for label, box in zip(pictures.labels[index], pictures.corners[index], strict=True):
            if label >= 0:
                truth.append(_coco(index, int(label), box) | {"id": len(truth) + 1, "iscrowd": 0})
        for label, score, box in suppress(predict(pixels[None].astype(np.float32) / 255)[0]):
            answers.append(_coco(index, label, box) | {"score": score})
    if not answers:
        return dict.fromkeys(("map", "map50", *LABELS), 0.0)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools has no other way to be quiet
        book = COCO()
        book.dataset = {
            "info": {},
            "images": [{"id": index} for index in range(len(pictures.pixels))],
            "categories": [{"id": index} for index in range(len(LABELS))],
            "annotations": truth,
        }
        book.createIndex()
        judge = COCOeval(book, book.loadRes(answers), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    by_label = judge.eval["precision"][:, :, :, 0, 2].mean(axis=(0, 1))
    figures = {"map": judge.stats[0], "map50": judge.stats[1], **dict(zip(LABELS, by_label, strict=True))}
    return {name: round(float(value), 4) for name, value in figures.items()}


def _coco(picture: int, label: int, box: npt.NDArray[np.float32]) -> dict[str, object]:
    x1, y1, x2, y2 = (float(corner) for corner in box)
    size = x2 - x1, y2 - y1
    return {"image_id": picture, "category_id": label, "bbox": [x1, y1, *size], "area": size[0] * size[1]}


def main() -> None:
    """Draw the pictures, train, export and measure what was exported."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for factory_nano.onnx and figures.json")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--pictures", type=int, default=4000, help="how many to train on")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=7, help="of the weights and the order; not of the pictures")
    parser.add_argument("--threads", type=int, default=1, help="of torch; one is faster on a busy machine")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw pictures")
    parser.add_argument("--bfloat16", action="store_true", help="twice as fast on a CPU with AMX, slow elsewhere")
    options = parser.parse_args()
    started = time.monotonic()
    torch.set_num_threads(options.threads)
    pictures = draw_pictures(TRAINING_SEED, options.pictures, workers=options.workers)
    print(f"drew {options.pictures} pictures in {time.monotonic() - started:.0f} s", flush=True)
    model = train(pictures, epochs=options.epochs, batch=options.batch, seed=options.seed, is_half=options.bfloat16)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "factory_nano.onnx"
    export(model, path)
    minutes = (time.monotonic() - started) / 60
    figures = measure(load(path), draw_pictures(VALIDATION_SEED, 300, workers=options.workers))
    figures |= {"parameters": sum(weight.numel() for weight in model.parameters()), "minutes": round(minutes, 1)}
    (options.out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
