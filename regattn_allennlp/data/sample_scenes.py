"""
The embedded sample of questions about images: generated scenes of this project's own making.

A scene is a square picture with 3 to 8 objects that do not overlap. An object has a shape, a color, a size and a box.
Its region's features are what a detector might give: a fixed random projection of these attributes and of the box,
with noise, cut off at 0. No object's features tell anything about the other objects.

Each question has exactly one answer, which one region tells:

* "what color is the small circle?", "what shape is the large red thing?", "how large is the blue triangle?", of the
  only object that is so;
* "where is the red square?": the quarter of the picture, "top left", of an object that is clearly in one of them;
* "what color is the leftmost thing?", also rightmost, highest and lowest, if it is so by a clear distance;
* "is there a star?", "is there a blue triangle?", yes or no about as often. Where there is no blue
  triangle, there are a blue thing and a triangle.

The training split is drawn with seed 20301 and the validation split with seed 20302. Scenes of the two differ not in
the boxes alone: no two have the same shapes, colors and sizes.
"""

import random
from collections.abc import Collection, Iterator
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np

SHAPES = ("circle", "square", "triangle", "star")
COLORS = ("red", "green", "blue", "yellow", "purple", "gray")
# The least and the largest side of the box, as fractions of the picture's.
SIDES = {"small": (0.07, 0.11), "medium": (0.15, 0.19), "large": (0.24, 0.3)}
SIZES = tuple(SIDES)
NUM_OBJECTS = (3, 8)

SPLIT_SIZES = {"train": 2000, "validation": 200}
SPLIT_SEEDS = {"train": 20_301, "validation": 20_302}
QUESTIONS_PER_SCENE = 4

FEATURE_DIM = 32
FEATURE_NOISE = 0.1  # standard deviation; an attribute that changes moves the features by about 1.4 each
PROJECTION_SEED = 20_300

# How far from the middle an object must be for its quarter of the picture to be clear, and how far from the next one
# the outermost object must be.
CLEAR_DISTANCE = 0.05

# By axis of the center and whether it is the least: y grows downwards.
OUTERMOST = {"leftmost": (0, True), "rightmost": (0, False), "highest": (1, True), "lowest": (1, False)}


class SceneObject(NamedTuple):
    """`box` is left, top, right and bottom, as fractions of the picture from its top left corner."""

    shape: str
    color: str
    size: str
    box: tuple[float, float, float, float]

    @property
    def center(self) -> tuple[float, float]:
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2

    @property
    def name(self) -> str:
        return f"{self.size} {self.color} {self.shape}"


class Scene(NamedTuple):
    """`features` has the shape (num_objects, FEATURE_DIM)."""

    image_id: str
    objects: tuple[SceneObject, ...]
    features: np.ndarray

    @property
    def attributes(self) -> tuple[str, ...]:
        return tuple(sorted(one.name for one in self.objects))


class SceneQuestion(NamedTuple):
    image_id: str
    question: str
    answer: str


class Description(NamedTuple):
    """What an object is said to be; `None` for what is left open."""

    size: str | None = None
    color: str | None = None
    shape: str | None = None

    def fits(self, one: SceneObject) -> bool:
        return all(said in (None, is_so) for said, is_so in zip(self, (one.size, one.color, one.shape), strict=True))

    def __str__(self) -> str:
        return " ".join(word for word in (self.size, self.color, self.shape or "thing") if word)


def _draw_objects(rng: random.Random) -> tuple[SceneObject, ...]:
    number = rng.randint(*NUM_OBJECTS)
    objects: list[SceneObject] = []
    while len(objects) < number:
        size = rng.choice(SIZES)
        side = rng.uniform(*SIDES[size])
        left, top = rng.uniform(0, 1 - side), rng.uniform(0, 1 - side)
        box = (round(left, 3), round(top, 3), round(left + side, 3), round(top + side, 3))
        if not any(_overlap(box, other.box) for other in objects):
            objects.append(SceneObject(rng.choice(SHAPES), rng.choice(COLORS), size, box))
    return tuple(objects)


def _overlap(box: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def _features(objects: tuple[SceneObject, ...], noise: np.random.RandomState) -> np.ndarray:
    attributes = np.array(
        [
            [one.shape == shape for shape in SHAPES]
            + [one.color == color for color in COLORS]
            + [one.size == size for size in SIZES]
            # From -1 to 1, so that a place counts as much as an attribute.
            + [2 * coordinate - 1 for coordinate in one.box]
            for one in objects
        ],
        dtype=np.float64,
    )
    projection = np.random.RandomState(PROJECTION_SEED).standard_normal((attributes.shape[1], FEATURE_DIM))
    features = attributes @ projection + FEATURE_NOISE * noise.standard_normal((len(objects), FEATURE_DIM))
    return np.maximum(features, 0).astype(np.float32)


def _descriptions(objects: tuple[SceneObject, ...], one: SceneObject, asked: str | None) -> list[Description]:
    """All that name `one` among the objects without what is asked for."""
    choices = [(None,) if name == asked else (None, getattr(one, name)) for name in Description._fields]
    descriptions = [Description(*chosen) for chosen in product(*choices)]
    return [said for said in descriptions if any(said) and sum(map(said.fits, objects)) == 1]


ATTRIBUTE_QUESTIONS = {
    "color": "what color is the {}?",
    "shape": "what shape is the {}?",
    "size": "how large is the {}?",
}


def _about_attribute(rng: random.Random, objects: tuple[SceneObject, ...]) -> tuple[str, str] | None:
    one, asked = rng.choice(objects), rng.choice(list(ATTRIBUTE_QUESTIONS))
    descriptions = _descriptions(objects, one, asked)
    if not descriptions:
        return None
    return ATTRIBUTE_QUESTIONS[asked].format(rng.choice(descriptions)), getattr(one, asked)


def _about_place(rng: random.Random, objects: tuple[SceneObject, ...]) -> tuple[str, str] | None:
    one = rng.choice(objects)
    descriptions = _descriptions(objects, one, None)
    x, y = one.center
    if not descriptions or min(abs(x - 0.5), abs(y - 0.5)) < CLEAR_DISTANCE:
        return None
    place = f"{'top' if y < 0.5 else 'bottom'} {'left' if x < 0.5 else 'right'}"
    return f"where is the {rng.choice(descriptions)}?", place


def _about_outermost(rng: random.Random, objects: tuple[SceneObject, ...]) -> tuple[str, str] | None:
    word, asked = rng.choice(list(OUTERMOST)), rng.choice(list(ATTRIBUTE_QUESTIONS))
    axis, is_least = OUTERMOST[word]
    outermost, following = sorted(objects, key=lambda one: one.center[axis], reverse=not is_least)[:2]
    if abs(outermost.center[axis] - following.center[axis]) < CLEAR_DISTANCE:
        return None
    return ATTRIBUTE_QUESTIONS[asked].format(f"{word} thing"), getattr(outermost, asked)


# What is said of the thing that is asked after.
EXISTENCE = (("size",), ("color",), ("shape",), ("size", "color"), ("size", "shape"), ("color", "shape"))


def _about_existence(rng: random.Random, objects: tuple[SceneObject, ...]) -> tuple[str, str] | None:
    names = rng.choice(EXISTENCE)
    is_there = rng.random() < 0.5
    there = {tuple(getattr(one, name) for name in names) for one in objects}
    # Of two attributes that no thing has together, each is there: one alone does not tell.
    known = {"size": SIZES, "color": COLORS, "shape": SHAPES}
    values = ({getattr(one, name) for one in objects} if len(names) > 1 else known[name] for name in names)
    absent = set(product(*values)) - there
    candidates = sorted(there if is_there else absent)
    if not candidates:
        return None
    said = Description(**dict(zip(names, rng.choice(candidates), strict=True)))
    return f"is there a {said}?", "yes" if is_there else "no"


# The first asks for more kinds of things than the others.
KINDS = (_about_attribute, _about_attribute, _about_attribute, _about_place, _about_outermost, _about_existence)


def _draw_questions(rng: random.Random, objects: tuple[SceneObject, ...]) -> Iterator[tuple[str, str]]:
    asked: set[str] = set()
    while len(asked) < QUESTIONS_PER_SCENE:
        drawn = rng.choice(KINDS)(rng, objects)
        if drawn is not None and drawn[0] not in asked:
            asked.add(drawn[0])
            yield drawn


def generate_scenes(
    split: str, num_scenes: int, seed: int, excluded_attributes: Collection[tuple[str, ...]] = ()
) -> tuple[list[Scene], list[SceneQuestion]]:
    """
    Draws scenes with their questions: `QUESTIONS_PER_SCENE` for each, in order. The scenes' "image_id" is the split
    and a number from 0: "train-17". No scene has one of the excluded `Scene.attributes`. The same arguments always
    give the same scenes.
    """
    # RandomState, because NumPy keeps its numbers the same from version to version.
    rng, noise = random.Random(seed), np.random.RandomState(seed)
    excluded = frozenset(excluded_attributes)
    scenes: list[Scene] = []
    questions: list[SceneQuestion] = []
    while len(scenes) < num_scenes:
        objects = _draw_objects(rng)
        scene = Scene(f"{split}-{len(scenes)}", objects, _features(objects, noise))
        if scene.attributes in excluded:
            continue
        scenes.append(scene)
        questions += [SceneQuestion(scene.image_id, *drawn) for drawn in _draw_questions(rng, objects)]
    return scenes, questions


@lru_cache
def _sample(split: str) -> tuple[list[Scene], list[SceneQuestion]]:
    excluded = [] if split == "train" else [scene.attributes for scene in _sample("train")[0]]
    return generate_scenes(split, SPLIT_SIZES[split], SPLIT_SEEDS[split], excluded)


def sample_questions(split: str) -> list[SceneQuestion]:
    """The questions of the embedded sample's split, "train" or "validation"."""
    if split not in SPLIT_SIZES:
        raise ValueError(f"the embedded sample has no split {split!r}; it has {', '.join(SPLIT_SIZES)}")
    return _sample(split)[1]


def sample_scene_ids() -> Iterator[str]:
    """Of all scenes of the embedded sample, those of validation first."""
    return (f"{split}-{number}" for split in ("validation", "train") for number in range(SPLIT_SIZES[split]))


def sample_scene(image_id: str) -> Scene:
    """The scene "train-17" of the embedded sample; ValueError if there is none of that name."""
    split, _, number = image_id.rpartition("-")
    if split not in SPLIT_SIZES or not number.isdecimal() or int(number) >= SPLIT_SIZES[split]:
        ranges = " and ".join(f'"{name}-0" to "{name}-{size - 1}"' for name, size in SPLIT_SIZES.items())
        raise ValueError(f'the embedded sample has no scene "{image_id}"; it has {ranges}')
    return _sample(split)[0][int(number)]
