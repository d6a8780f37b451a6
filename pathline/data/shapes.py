"""One or two coloured shapes with sizes and relations, with captions, drawn as they are asked for.

A shape is where a signed distance d is negative, and a pixel shows as much of it as a straight edge would cover there:

    coverage = clamp(1/2 - d(pixel), 0, 1)        picture = ground + sum over things of coverage * (colour - ground)

Scene i is a function of (seed, i). Things are wholly inside, lie apart along the axis of their relation, and stand off
it by at most half of the way along it. Where an axis is named, x runs to the right and y runs down.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pathline.data.distributions import check_counts
from pathline.data.pictures import LEVELS
from pathline.data.rows import Rows
from pathline.data.shape_words import COLOURS, RELATIONS, SHAPES, SIZES, UNSEEN, Scene, Thing
from pathline.data.source import Samples, Source
from pathline.noise import Noise

VERSION = 1  # of the drawings: change it when they change, as models were trained on them
SIDE = 16  # of a picture, in pixels
GROUND = (24.0, 24.0, 28.0)  # levels of red, green and blue
PALETTE = {
    "red": (235.0, 45.0, 45.0),
    "green": (40.0, 190.0, 70.0),
    "blue": (50.0, 95.0, 245.0),
    "yellow": (250.0, 230.0, 50.0),
    "purple": (180.0, 60.0, 225.0),
    "orange": (250.0, 140.0, 25.0),
}
RADII = (2.2, 3.3)  # of small things and large ones, in pixels
EXTENTS = torch.tensor([[1.0, 1.0], [0.92, 0.92], [1.0, 0.9], [1.0, 1.0]])  # half of each shape's box, in radii: x, y
ARM = 0.34  # half of the width of a cross's arm, in radii
GAP, MARGIN = 1.25, 0.25  # pixels between the boxes of things, and between them and the edge
SLANT = 0.5  # how far a thing may stand off the axis of its relation, over the way along it
ALONE = 0.4  # the share of scenes of one thing
UNSEEN_WEIGHT = 1, 2  # how often a composition that is held out is drawn, and one that is not
SCENE_STREAM = 40


def distance(shape: str, radius: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The signed distance of points from a shape around the origin, negative inside; deep inside a cross, a bound.

    Args:
        shape: One of `SHAPES`.
        radius: Its size.
        x: How far to the right the points are, all of a shape that meets the others.
        y: How far down.
    """
    half_x, half_y = (radius * float(part) for part in EXTENTS[SHAPES.index(shape)])
    x = x.abs()
    if shape == "circle":
        return _norm(x, y) - radius
    if shape == "square":
        return _box(x, y.abs(), half_x, half_y)
    if shape == "cross":
        return torch.minimum(_box(x, y.abs(), half_x, ARM * radius), _box(x, y.abs(), ARM * radius, half_y))
    along = ((x * half_x + (y + half_y) * 2 * half_y) / (half_x**2 + 4 * half_y**2)).clamp(0, 1)  # from apex to foot
    side = _norm(x - along * half_x, y + half_y - along * 2 * half_y)
    base = _norm((x - half_x).clamp(min=0), y - half_y)
    is_inside = (2 * half_y * x < half_x * (y + half_y)) & (y < half_y)
    nearest = torch.minimum(side, base)
    return torch.where(is_inside, -nearest, nearest)


def _norm(x: Tensor, y: Tensor) -> Tensor:
    return (x * x + y * y).sqrt()


def _box(x: Tensor, y: Tensor, half_x: Tensor, half_y: Tensor) -> Tensor:
    x, y = x - half_x, y - half_y
    return _norm(x.clamp(min=0), y.clamp(min=0)) + torch.maximum(x, y).clamp(max=0)


def coverage(shape: Tensor, radius: Tensor, centre: Tensor, side: int = SIDE) -> Tensor:
    """How much of each pixel each thing covers, of shape `(things, side, side)`.

    Args:
        shape: An index into `SHAPES` each, of shape `(things,)`.
        radius: In pixels, of shape `(things,)`.
        centre: Of the box around each, x and y in pixels from the upper left corner, of shape `(things, 2)`.
        side: Of the picture.
    """
    pixel = torch.arange(side, dtype=centre.dtype) + 0.5
    found = centre.new_empty(len(shape), side, side)
    for k, name in enumerate(SHAPES):
        mine = (shape == k).nonzero()[:, 0]
        x, y = (pixel - centre[mine, axis, None] for axis in (0, 1))
        found[mine] = (0.5 - distance(name, radius[mine, None, None], x[:, None, :], y[:, :, None])).clamp(0, 1)
    return found


@dataclass(frozen=True)
class Scenes:
    """Scenes of one thing or two, in numbers; the second of a scene of one does not count.

    Attributes:
        has_two: Of shape `(scenes,)`.
        colour: Indices into `COLOURS`, of shape `(scenes, 2)`, as all that follows but the relation.
        shape: Indices into `SHAPES`.
        size: Indices into `SIZES`.
        is_told: Whether the caption names the size.
        relation: Of the first to the second: indices into `RELATIONS`, of shape `(scenes,)`.
        centre: x and y in pixels, of shape `(scenes, 2, 2)`.
    """

    has_two: Tensor
    colour: Tensor
    shape: Tensor
    size: Tensor
    is_told: Tensor
    relation: Tensor
    centre: Tensor

    def __len__(self) -> int:
        return len(self.has_two)

    def __getitem__(self, index: Tensor | slice) -> Scenes:
        return Scenes(*(value[index] for value in vars(self).values()))

    @property
    def is_unseen(self) -> Tensor:
        """Whether each has a thing that is never trained on."""
        held = torch.zeros(len(COLOURS), len(SHAPES), dtype=torch.bool)
        for colour, shape in UNSEEN:
            held[COLOURS.index(colour), SHAPES.index(shape)] = True
        first, second = held[self.colour.long(), self.shape.long()].unbind(1)
        return first | (second & self.has_two)

    def pictures(self) -> Tensor:
        """Levels from 0 to 255, whole numbers, of shape `(scenes, 3, SIDE, SIDE)`."""
        ground, palette = torch.tensor(GROUND), torch.tensor(list(PALETTE.values()))
        radius = torch.tensor(RADII)[self.size.long()]
        found = ground[:, None, None].repeat(len(self), 1, SIDE, SIDE)
        for k, scene in enumerate((torch.arange(len(self)), self.has_two.nonzero()[:, 0])):
            shown = coverage(self.shape[scene, k], radius[scene, k], self.centre[scene, k])
            change = palette[self.colour[scene, k].long()] - ground
            found[scene] += shown[:, None] * change[:, :, None, None]
        return found.round_()

    def scene(self, i: int) -> Scene:
        """Scene i in words and places, sizes told or not."""
        things = tuple(
            Thing(
                COLOURS[int(self.colour[i, k])],
                SHAPES[int(self.shape[i, k])],
                SIZES[int(self.size[i, k])],
                (float(self.centre[i, k, 0]), float(self.centre[i, k, 1])),
            )
            for k in range(1 + int(self.has_two[i]))
        )
        return Scene(things, RELATIONS[int(self.relation[i])] if len(things) > 1 else "")

    def captions(self) -> tuple[tuple[str, ...], Tensor]:
        """The distinct captions, and the index of each scene's among them."""
        thing = (self.colour.long() * len(SHAPES) + self.shape) * 3 + torch.where(self.is_told, self.size.long() + 1, 0)
        first, second = thing.unbind(1)
        words = [Thing(c, s, size).caption for c in COLOURS for s in SHAPES for size in ("", *SIZES)]
        rest = torch.where(self.has_two, 1 + self.relation * len(words) + second, 0)
        rests = ["", *(f" {relation} {word}" for relation in RELATIONS for word in words)]
        codes, y = np.unique((first * len(rests) + rest).numpy(), return_inverse=True)
        told = tuple(words[code // len(rests)] + rests[code % len(rests)] for code in codes.tolist())
        return told, torch.from_numpy(y.astype(np.int64))


def scenes(count: int, seed: int = 0, first: int = 0) -> Scenes:
    """Scenes from number `first` on; scene i depends on the seed and i only.

    Colours and shapes are drawn evenly, but for those of `UNSEEN`, which are half as frequent; two things differ in one
    of them. A scene of two is told from either side.

    Raises:
        ValueError: If count is no whole number from 1, or the seed does not fit 64 bits.
    """
    check_counts(count=count)
    u = Noise(seed, first, SCENE_STREAM).uniform((count, 12), dtype=torch.float64).T
    has_two, relation = u[0] >= ALONE, (u[1] * len(RELATIONS)).long()
    pair = _pairs(u[2:4])
    size, is_told = (u[4:6].T * len(SIZES)).long(), u[6:8].T < 0.5
    shape = pair % len(SHAPES)
    half = EXTENTS.double()[shape] * torch.tensor(RADII, dtype=torch.float64)[size][..., None]  # (count, 2 things, x y)
    alone = MARGIN + half[:, 0] + (SIDE - 2 * MARGIN - 2 * half[:, 0]) * u[[8, 10]].T
    two = _placed(half, relation, u[8:12])
    two[~has_two] = alone[~has_two][:, None]
    return Scenes(
        has_two,
        (pair // len(SHAPES)).to(torch.uint8),
        shape.to(torch.uint8),
        size.to(torch.uint8),
        is_told,
        relation,
        two.float(),
    )


def _pairs(u: Tensor) -> Tensor:
    """Two compositions that differ, colour and shape in one number, of shape `(count, 2)`, for two rows of chances.

    They are drawn as tickets, of which each has as many as its weight, those of the first being taken away.
    """
    weight = torch.tensor([UNSEEN_WEIGHT[(colour, shape) not in UNSEEN] for colour in COLOURS for shape in SHAPES])
    tickets = torch.arange(len(weight)).repeat_interleave(weight)
    first = tickets[(u[0] * len(tickets)).long()]
    start, own = (weight.cumsum(0) - weight)[first], weight[first]
    second = (u[1] * (len(tickets) - own)).long()
    return torch.stack((first, tickets[torch.where(second < start, second, second + own)]), 1)


def _placed(half: Tensor, relation: Tensor, u: Tensor) -> Tensor:
    """Centres of two things of the given half boxes, of shape `(count, 2, 2)`, for four rows of chances.

    What room is left along the axis goes before, between and behind them, evenly; across it, the second stays in sight
    of the first.
    """
    scene, axis = torch.arange(len(half)), (relation < 2).long()  # 0 for x, 1 for y
    is_first = relation % 2 == 0  # whether the first thing is nearer to 0
    order = torch.where(is_first[:, None], torch.tensor([0, 1]), torch.tensor([1, 0]))  # near, far
    along, across = (half[scene[:, None], order, way[:, None]] for way in (axis, 1 - axis))
    room = SIDE - 2 * MARGIN - GAP - 2 * along.sum(1)
    before, until = u[:2].sort(0).values * room
    near = MARGIN + along[:, 0] + before
    far = near + along.sum(1) + GAP + (until - before)
    low, high = MARGIN + across, SIDE - MARGIN - across
    one = low[:, 0] + (high - low)[:, 0] * u[2]
    reach = SLANT * (far - near)
    least, most = torch.maximum(low[:, 1], one - reach), torch.minimum(high[:, 1], one + reach)
    other = least + (most - least) * u[3]
    centre = torch.empty_like(half)
    for place, (a, b) in enumerate(((near, one), (far, other))):
        centre[scene, order[:, place], axis] = a
        centre[scene, order[:, place], 1 - axis] = b
    return centre


class Drawing:
    """Pictures of scenes, drawn as they are asked for, by a slice or by numbers from 0."""

    def __init__(self, scenes: Scenes) -> None:
        self.scenes = scenes

    @property
    def shape(self) -> tuple[int, ...]:
        """That of all pictures, as a tensor would have it."""
        return (len(self), 3, SIDE, SIDE)

    @property
    def ndim(self) -> int:
        """The number of dimensions, the pictures' own included."""
        return 4

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Some of the pictures, as levels from 0 to 255."""
        return self.scenes[index].pictures()


@dataclass(frozen=True)
class ShapesSource(Source):
    """Pictures of one or two coloured shapes, 16 x 16 pixels in three colours, values 0 to 255, each with a caption.

    Attributes:
        count: How many.
        seed: Picture i depends on the seed and i only.

    Raises:
        ValueError: If count is no whole number from 1.
    """

    count: int = 50_000
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(count=self.count)

    def load(self) -> Samples:
        """All of them, to be drawn as they are asked for."""
        drawn = scenes(self.count, self.seed)
        captions, y = drawn.captions()
        drawing = (VERSION, SIDE, GROUND, PALETTE, RADII, EXTENTS.tolist(), ARM)
        making = (self.count, self.seed, GAP, MARGIN, SLANT, ALONE, UNSEEN, UNSEEN_WEIGHT)
        return Samples(
            x=Rows(Drawing(drawn)),
            y=y,
            classes=(),
            captions=captions,
            unseen=drawn.is_unseen,
            normalisation=LEVELS,
            title=f"{self.count:,} drawings of one or two coloured shapes with captions, 16 x 16 pixels, "
            f"seed {self.seed}",
            licence="generated; no rights",
            source="pathline's own drawings",
            fingerprint=hashlib.sha256(repr((drawing, making)).encode()).hexdigest(),
        )
