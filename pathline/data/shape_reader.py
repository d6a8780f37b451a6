"""Shapes read back from a picture, so that a prompt can be held against what was drawn for it.

A pixel p of a thing of colour c lies between the ground g and c, as far along as it is covered:

    coverage = <p - g, c - g> / |c - g|^2,    c = the colour with the least |p - g - coverage (c - g)|^2 about the pixel

Pixels more than half covered that touch along an edge and have one colour are a thing. It is the shape, size and place,
of all within a grid of places about its own, whose drawing is nearest to its coverage in squares; and none at all where
that drawing leaves more than a few pixels wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pathline.data.shape_words import COLOURS, SHAPES, SIZES, Scene, Thing, parse
from pathline.data.shapes import GROUND, PALETTE, RADII, SIDE, coverage

BLOCK = 512  # pictures read at once
SPECK = 3  # pixels from which on a blob is a thing
REACH, STEP = 1.25, 0.25  # of the grid of places, in pixels: a blob's box may be off by half of a pixel, and by noise
WINDOW = 11  # pixels, which hold a large thing wherever it is in the grid
WRONG, MOST_WRONG = 80.0, 4  # levels by which a pixel is off to be wrong, and how many may be
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)


def read(pictures: Tensor) -> list[tuple[Thing, ...]]:
    """The things in each picture; one that is none of the known shapes has a colour and a place only.

    Args:
        pictures: Levels of shape `(pictures, 3, SIDE, SIDE)`; what is beyond 0 to 255 is clipped.

    Raises:
        ValueError: If the pictures have another shape, or a level is not finite.
    """
    if pictures.ndim != 4 or pictures.shape[1:] != (3, SIDE, SIDE):
        raise ValueError(
            f"pictures must have shape (pictures, 3, {SIDE}, {SIDE}), got {tuple(pictures.shape)}; pass x[None] for one"
        )
    levels = pictures.detach().cpu().to(torch.float32)
    if not levels.isfinite().all():
        bad = int((~levels.flatten(1).isfinite().all(1)).nonzero()[0])
        raise ValueError(f"pictures must be finite, got {levels[bad].sum():g} in picture {bad}; leave such ones out")
    return [things for block in torch.split(levels.clamp(0, 255), BLOCK) for things in _read(block)]


def agreement(prompts: Sequence[str], pictures: Tensor) -> Tensor:
    """Whether each picture shows what its prompt tells of, and nothing else, of shape `(pictures,)`.

    There must be as many things, with the colours and shapes that are told, the sizes where they are, and centres in
    the relation that is told: farther apart along its axis than across it.

    Args:
        prompts: One for each picture.
        pictures: As for `read`.

    Raises:
        ValueError: If there are not as many of both, a prompt is no caption of shapes, or the pictures have another
            shape.
    """
    if len(prompts) != len(pictures):
        raise ValueError(f"there must be one prompt for each picture, got {len(prompts)} for {len(pictures)}")
    told = [parse(prompt) for prompt in prompts]
    return torch.tensor([shows(*pair) for pair in zip(read(pictures), told, strict=True)], dtype=torch.bool)


def agrees(prompt: str, picture: Tensor) -> bool:
    """Whether one picture, of shape `(3, SIDE, SIDE)`, shows what the prompt tells of: see `agreement`."""
    return bool(agreement([prompt], picture[None]))


def shows(things: Sequence[Thing], scene: Scene) -> bool:
    """Whether things that were read are those of a scene, as far as it is told."""
    if len(things) != len(scene.things):
        return False
    orders = [things] if len(things) < 2 else [things, things[::-1]]
    return any(_is_told(order, scene) for order in orders)


def _is_told(things: Sequence[Thing], scene: Scene) -> bool:
    for thing, told in zip(things, scene.things, strict=True):
        if (thing.colour, thing.shape) != (told.colour, told.shape) or told.size not in ("", thing.size):
            return False
    if not scene.relation:
        return True
    (x, y), (other_x, other_y) = (thing.centre or (np.nan, np.nan) for thing in things)
    right, down = other_x - x, other_y - y
    ahead, aside = {
        "above": (down, right),
        "below": (-down, right),
        "left of": (right, down),
        "right of": (-right, down),
    }[scene.relation]
    return ahead > abs(aside)


def _read(levels: Tensor) -> list[tuple[Thing, ...]]:
    """The things in each of some pictures, whose levels are good."""
    shade = levels - torch.tensor(GROUND)[:, None, None]
    covers, colour, is_covered = _covered(shade)
    blobs = _blobs(colour, is_covered)
    if not blobs.any():
        return [()] * len(levels)
    owner = _owners(blobs)
    count = int(blobs.max())
    where = np.nonzero(blobs)
    numbers, first = np.unique(blobs[where], return_index=True)
    picture = where[0][first]
    hue = torch.from_numpy(colour[where][first])
    seen = covers[torch.from_numpy(picture), hue]
    mine = torch.from_numpy(owner[picture] == numbers[:, None, None])
    shape, size, centre = _fitted(seen, mine, _middles(blobs, count))

    change = (torch.tensor(list(PALETTE.values())) - torch.tensor(GROUND))[hue]
    shown = coverage(shape, torch.tensor(RADII)[size], centre)[:, None] * change[:, :, None, None]
    drawn = torch.zeros_like(shade).index_add_(0, torch.from_numpy(picture), shown)
    is_wrong = (shade - drawn).abs().amax(1) > WRONG
    wrong = (is_wrong[torch.from_numpy(picture)] & mine).sum((1, 2))

    found: list[list[Thing]] = [[] for _ in levels]
    for k, i in enumerate(picture.tolist()):
        is_known = int(wrong[k]) <= MOST_WRONG
        words = (SHAPES[int(shape[k])], SIZES[int(size[k])]) if is_known else ("", "")
        found[i].append(Thing(COLOURS[int(hue[k])], *words, (float(centre[k, 0]), float(centre[k, 1]))))
    return [tuple(things) for things in found]


def _covered(shade: Tensor) -> tuple[Tensor, NDArray[Any], NDArray[Any]]:
    """How much each colour would cover of each pixel, the colour of each, and whether that covers more than half.

    A colour is settled by a pixel and its covered neighbours together, as the edge of an orange thing is brown.
    """
    ways = torch.tensor(list(PALETTE.values())) - torch.tensor(GROUND)
    square = (ways * ways).sum(1)[:, None, None]
    along = torch.einsum("nchw,kc->nkhw", shade, ways)
    covers = (along / square).clamp(0, 1)
    miss = (shade * shade).sum(1, keepdim=True) - 2 * covers * along + covers * covers * square
    own = miss.argmin(1, keepdim=True)
    is_covered = covers.gather(1, own) > 0.5
    counted = torch.nn.functional.pad(miss * is_covered, (1, 1, 1, 1))
    middle = slice(1, -1)
    about = counted[..., middle, middle] + counted[..., :-2, middle] + counted[..., 2:, middle]
    about += counted[..., middle, :-2] + counted[..., middle, 2:]
    colour = about.argmin(1, keepdim=True)
    is_covered &= covers.gather(1, colour) > 0.5
    return covers, colour[:, 0].numpy(), is_covered[:, 0].numpy()


def _blobs(colour: NDArray[Any], is_covered: NDArray[Any]) -> NDArray[Any]:
    """The number of the blob that each pixel is in, from 1 through all pictures; 0 beside them, and in specks."""
    from scipy import ndimage

    inside = np.stack([np.zeros_like(CROSS), CROSS, np.zeros_like(CROSS)])  # pictures do not touch
    blobs = np.zeros(colour.shape, np.int64)
    for k in range(len(COLOURS)):
        labels = ndimage.label(is_covered & (colour == k), inside)[0]
        blobs = np.where(labels > 0, labels + blobs.max(initial=0), blobs)
    sizes = np.bincount(blobs.ravel(), minlength=1)
    is_kept = sizes >= SPECK
    is_kept[0] = False
    renumbered = np.where(is_kept, is_kept.cumsum(), 0)
    return renumbered[blobs]


def _owners(blobs: NDArray[Any]) -> NDArray[Any]:
    """The number of the blob that is nearest to each pixel of its picture; 0 in pictures without one."""
    from scipy import ndimage

    far = 4.0 * SIDE  # between pictures: no blob of another one is nearer than one of its own
    index = ndimage.distance_transform_edt(blobs == 0, (far, 1, 1), return_distances=False, return_indices=True)
    own = np.arange(len(blobs))[:, None, None] == index[0]
    return np.where(own, blobs[tuple(index)], 0)


def _middles(blobs: NDArray[Any], count: int) -> NDArray[Any]:
    """The middle of the box around each blob, x and y in pixels, of shape `(count, 2)`."""
    from scipy import ndimage

    boxes = ndimage.find_objects(blobs, count)
    return np.array([[(box[k].start + box[k].stop) / 2 for k in (2, 1)] for box in boxes])


@functools.cache
def _templates() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All drawings that a thing is held against, of shape `(templates, WINDOW**2)`: shape, size and place of each."""
    steps = torch.arange(-REACH, REACH + STEP / 2, STEP)
    grid = torch.cartesian_prod(torch.arange(float(len(SHAPES))), torch.arange(float(len(SIZES))), steps, steps)
    shape, size, place = grid[:, 0].long(), grid[:, 1].long(), grid[:, 2:]
    drawn = coverage(shape, torch.tensor(RADII)[size], WINDOW / 2 + place, WINDOW)
    return drawn.flatten(1), shape, size, place


def _fitted(seen: Tensor, mine: Tensor, middles: NDArray[Any]) -> tuple[Tensor, Tensor, Tensor]:
    """The shape, size and centre of each thing, by least squares over the pixels that are its own.

    sum w (seen - drawn)^2 = const - 2 <w seen, drawn> + <w, drawn^2>,    w = 1 off the picture too, where seen = 0
    """
    drawn, shape, size, place = _templates()
    corner = torch.from_numpy(np.round(middles - WINDOW / 2)).long()  # of the window, x and y
    edge = WINDOW
    seen = torch.nn.functional.pad(seen * mine, (edge,) * 4)
    weight = torch.nn.functional.pad(mine.float(), (edge,) * 4, value=1.0)
    pixel = torch.arange(WINDOW) + edge
    rows, columns = (corner[:, k, None] + pixel for k in (1, 0))
    thing = torch.arange(len(seen))[:, None, None]
    seen, weight = (x[thing, rows[:, :, None], columns[:, None, :]].flatten(1) for x in (seen, weight))
    cost = weight @ drawn.T.square() - 2 * (seen @ drawn.T)
    best = cost.argmin(1)
    return shape[best], size[best], corner + WINDOW / 2 + place[best]
