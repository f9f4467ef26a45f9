import hashlib
import re
from collections import Counter, defaultdict

import numpy as np
import pytest

from regattn_allennlp.data.sample_scenes import (
    COLORS,
    FEATURE_DIM,
    QUESTIONS_PER_SCENE,
    SHAPES,
    SIZES,
    SPLIT_SEEDS,
    SPLIT_SIZES,
    generate_scenes,
    sample_questions,
    sample_scene,
)

DIGESTS = {
    "train": "f4e8c93bd1b83e025e442f14e65c2dcb2fb18171959829b21546f582d9a96f11",
    "validation": "a519c020fd4dc1b0b615e4847e5d8d72cfe3f7b97d620ad22afbd6973b5698d7",
}
ATTRIBUTES = {*SHAPES, *COLORS, *SIZES}


def all_questions():
    return sample_questions("train") + sample_questions("validation")


def scenes(split):
    return [sample_scene(f"{split}-{number}") for number in range(SPLIT_SIZES[split])]


def answers_seen_in(objects, question: str) -> set[str]:
    """
    Every answer that somebody who looks at the picture could give, read from the words of the question: one, if it is
    a fair question.
    """
    words = question.rstrip("?").split()
    said = set(words[2:]) & ATTRIBUTES
    meant = [one for one in objects if said <= {one.shape, one.color, one.size}]
    middles = {one: ((one.box[0] + one.box[2]) / 2, (one.box[1] + one.box[3]) / 2) for one in objects}
    for word, axis, pick in (("leftmost", 0, min), ("rightmost", 0, max), ("highest", 1, min), ("lowest", 1, max)):
        if word in words:
            extreme = pick(middle[axis] for middle in middles.values())
            meant = [one for one in meant if middles[one][axis] == extreme]
    if words[:2] == ["is", "there"]:
        return {"yes" if meant else "no"}
    if words[:2] == ["where", "is"]:
        rows_and_columns = (("top", "bottom")[y > 0.5] + " " + ("left", "right")[x > 0.5] for x, y in middles.values())
        place = dict(zip(middles, rows_and_columns, strict=True))
        return {place[one] for one in meant}
    asked = {"what color": "color", "what shape": "shape", "how large": "size"}[" ".join(words[:2])]
    assert len(meant) == 1, question
    return {getattr(one, asked) for one in meant}


def test_every_answer_is_what_the_scene_shows():
    for asked in all_questions():
        assert answers_seen_in(sample_scene(asked.image_id).objects, asked.question) == {asked.answer}, asked


@pytest.mark.parametrize("split", ["train", "validation"])
def test_splits_are_always_the_same(split):
    text = "".join("\t".join(asked) + "\n" for asked in sample_questions(split))
    assert hashlib.sha256(text.encode()).hexdigest() == DIGESTS[split]


def test_scenes_are_what_is_promised():
    for split, size in SPLIT_SIZES.items():
        found = scenes(split)
        assert len({scene.image_id for scene in found}) == len(found) == size
        assert Counter(len(scene.objects) for scene in found).keys() == set(range(3, 9))
        for scene in found:
            assert scene.features.shape == (len(scene.objects), FEATURE_DIM) and scene.features.dtype == np.float32
            assert np.isfinite(scene.features).all()
            boxes = [one.box for one in scene.objects]
            for number, (left, top, right, bottom) in enumerate(boxes):
                assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
                for other in boxes[:number]:
                    apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
                    assert apart


def test_no_scene_of_validation_is_one_of_training():
    # Not even one with the same things elsewhere.
    things = {
        split: {tuple(sorted(one[:3] for one in scene.objects)) for scene in scenes(split)} for split in SPLIT_SIZES
    }
    assert things["train"].isdisjoint(things["validation"])


def test_each_scene_has_its_questions_and_none_twice():
    of_scene = defaultdict(list)
    for asked in all_questions():
        of_scene[asked.image_id].append(asked.question)
    assert len(of_scene) == sum(SPLIT_SIZES.values())
    assert all(len(set(questions)) == len(questions) == QUESTIONS_PER_SCENE for questions in of_scene.values())


def test_the_question_alone_tells_little():
    of_question, answers = defaultdict(Counter), Counter()
    for asked in sample_questions("train"):
        of_question[asked.question][asked.answer] += 1
        answers[asked.answer] += 1
    validation = sample_questions("validation")

    def guess(question):
        return (of_question.get(question) or answers).most_common(1)[0][0]

    assert sum(guess(asked.question) == asked.answer for asked in validation) / len(validation) < 0.34
    assert max(answers.values()) / sum(answers.values()) < 0.13
    existence = Counter(asked.answer for asked in all_questions() if asked.question.startswith("is there"))
    assert abs(existence["yes"] / existence.total() - 0.5) < 0.06


def test_features_tell_the_attributes_and_the_place():
    """A linear readout of one region's features finds each attribute: the noise hides none."""
    train, validation = scenes("train"), scenes("validation")

    def table(found):
        features = np.concatenate([scene.features for scene in found])
        return np.hstack([features, np.ones((len(features), 1))]), [one for scene in found for one in scene.objects]

    (inputs, objects), (other_inputs, others) = table(train), table(validation)
    for name in ("shape", "color", "size"):
        values = sorted({getattr(one, name) for one in objects})
        wanted = np.array([[getattr(one, name) == value for value in values] for one in objects], dtype=float)
        readout, *_ = np.linalg.lstsq(inputs, wanted, rcond=None)
        told = (other_inputs @ readout).argmax(1)
        accuracy = np.mean([values[number] == getattr(one, name) for number, one in zip(told, others, strict=True)])
        assert accuracy > 0.9, (name, accuracy)


def test_the_seed_decides():
    assert generate_scenes("x", 20, seed=1)[1] == generate_scenes("x", 20, seed=1)[1]
    assert generate_scenes("x", 20, seed=1)[1] != generate_scenes("x", 20, seed=2)[1]
    drawn, _ = generate_scenes("x", 50, seed=3)
    excluded = {scene.attributes for scene in drawn}
    assert excluded.isdisjoint(scene.attributes for scene in generate_scenes("x", 50, 3, excluded)[0])
    np.testing.assert_array_equal(
        generate_scenes("train", 3, SPLIT_SEEDS["train"])[0][2].features, sample_scene("train-2").features
    )


@pytest.mark.parametrize("image_id", ["train-2000", "test-0", "17", "train-", "train--1", ""])
def test_an_unknown_scene_is_named(image_id):
    with pytest.raises(ValueError, match=re.escape(f'"{image_id}"') + '.*"train-0" to "train-1999"'):
        sample_scene(image_id)


def test_an_unknown_split_is_named():
    with pytest.raises(ValueError, match=r"'test'.*train, validation"):
        sample_questions("test")
