import json
import os
import pickle
import zipfile

import h5py
import numpy as np
import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Batch, DatasetReader, Vocabulary
from allennlp.data.data_loaders import MultiProcessDataLoader

import regattn_allennlp.data.dataset_readers  # noqa: F401  (registers the reader)
from regattn_allennlp.data.data_loaders import CachedDataLoader
from regattn_allennlp.data.region_features import Regions, StoredFeatures

DIM = 3
QUESTIONS = [
    {"question_id": 70, "image_id": 7, "question": "What color is the cat?"},
    {"question_id": 71, "image_id": 7, "question": "Is it raining?"},
    {"question_id": 120, "image_id": 12, "question": "How many dogs?"},
]
ANSWERS = {70: ["black"] * 2 + ["Black."] * 6 + ["the gray"] * 2, 71: ["no"] * 10, 120: ["two"] * 9 + ["3"]}
QUESTIONS_NAME = "v2_OpenEnded_mscoco_train2014_questions.json"
ANNOTATIONS_NAME = "v2_mscoco_train2014_annotations.json"
NUM_REGIONS = {"7": 2, "12": 4}


def annotation(question_id):
    answers = [{"answer": answer, "answer_id": number} for number, answer in enumerate(ANSWERS[question_id])]
    right = max(ANSWERS[question_id], key=ANSWERS[question_id].count)
    return {"question_id": question_id, "image_id": 0, "multiple_choice_answer": right, "answers": answers}


def features_of(image_id):
    return np.arange(NUM_REGIONS[image_id] * DIM, dtype=np.float32).reshape(-1, DIM) + int(image_id)


def layout(**of_images):
    """The arrays of both images by their names in the files."""
    arrays = {}
    for image_id, number in NUM_REGIONS.items():
        arrays[f"{image_id}/features"] = features_of(image_id)
        corner = np.linspace(0, 0.5, number)
        arrays[f"{image_id}/boxes"] = np.stack([corner, corner, corner + 0.5, corner + 0.25], axis=1)
    arrays["12/boxes"] = arrays["12/boxes"] * [640, 480, 640, 480]
    arrays["12/image_size"] = np.array([640, 480])
    arrays["7/names"] = np.array(["cat", "façade"])
    return {name: array for name, array in {**arrays, **of_images}.items() if array is not None}


def write_features(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
        return path
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array.astype(h5py.string_dtype()) if array.dtype.kind == "U" else array)
    return path


@pytest.fixture(params=["features.h5", "features.npz"])
def features(request, tmp_path):
    return write_features(tmp_path / request.param, layout())


@pytest.fixture
def questions(tmp_path):
    """The path of the questions, with the annotations where VQA has them."""
    (tmp_path / QUESTIONS_NAME).write_text(json.dumps({"questions": QUESTIONS}))
    annotations = {"annotations": [annotation(question["question_id"]) for question in reversed(QUESTIONS)]}
    (tmp_path / ANNOTATIONS_NAME).write_text(json.dumps(annotations))
    return tmp_path / QUESTIONS_NAME


def reader(features=None, **params):
    features = {} if features is None else {"region_features": str(features)}
    return DatasetReader.from_params(
        Params({"type": "vqa", "tokenizer": {"type": "whitespace"}, **features, **params})
    )


def read(path, features=None, **params):
    return list(reader(features, **params).read(str(path)))


def error_of(path, features=None, **params):
    with pytest.raises(ConfigurationError) as error:
        for instance in read(path, features, **params):
            instance["regions"].as_tensor(instance["regions"].get_padding_lengths())
    return str(error.value)


# ---- what is read ----


def test_questions_answers_and_regions(questions, features):
    instances = read(questions, features)
    for instance, question in zip(instances, QUESTIONS, strict=True):
        metadata = instance["metadata"].metadata
        assert metadata["question_id"] == question["question_id"]
        assert metadata["image_id"] == str(question["image_id"])
        assert metadata["question"] == question["question"]
        assert [token.text for token in instance["question"].tokens] == question["question"].split()
        np.testing.assert_array_equal(instance["regions"].array(), features_of(metadata["image_id"]))
        assert metadata["num_regions"] == NUM_REGIONS[metadata["image_id"]]
        assert instance["answer"].label == {70: "black", 71: "no", 120: "2"}[question["question_id"]]
        # In fractions, whether the file has them in pixels or not.
        np.testing.assert_allclose([box[2] - box[0] for box in metadata["boxes"]], 0.5)
        np.testing.assert_allclose([box[3] - box[1] for box in metadata["boxes"]], 0.25)
    assert instances[0]["metadata"]["answer_scores"] == pytest.approx({"black": 1.0, "gray": 0.6})
    assert instances[0]["metadata"]["region_names"] == ["cat", "façade"]
    assert instances[2]["metadata"]["answer_scores"] == pytest.approx({"2": 1.0, "3": 0.3})
    assert instances[2]["metadata"]["region_names"] == []


def test_both_formats_give_the_same_instances(questions, tmp_path):
    paths = [write_features(tmp_path / name, layout()) for name in ("features.h5", "features.npz")]
    batches = []
    for path in paths:
        instances = read(questions, path)
        batch = Batch(instances)
        batch.index_instances(Vocabulary.from_instances(instances))
        batches.append(batch.as_tensor_dict())
    assert batches[0].pop("metadata") == batches[1].pop("metadata")
    assert batches[0].keys() == batches[1].keys() == {"question", "regions", "region_mask", "answer"}
    torch.testing.assert_close(*(batch.pop("question")["tokens"]["tokens"] for batch in batches), rtol=0, atol=0)
    torch.testing.assert_close(*batches, rtol=0, atol=0)


def test_regions_are_padded_and_masked(questions, features):
    instances = read(questions, features)
    batch = Batch(instances)
    batch.index_instances(Vocabulary.from_instances(instances))
    tensors = batch.as_tensor_dict()
    assert tensors["regions"].shape == (3, 4, DIM) and tensors["regions"].dtype == torch.float32
    assert tensors["region_mask"].dtype == torch.bool
    assert tensors["region_mask"].tolist() == [[True, True, False, False]] * 2 + [[True] * 4]
    assert tensors["regions"][:2, 2:].eq(0).all()


def test_features_are_not_kept(questions, features):
    instance = pickle.loads(pickle.dumps(read(questions, features)[0]))
    assert isinstance(instance["regions"].features, StoredFeatures)
    np.testing.assert_array_equal(instance["regions"].array(), features_of("7"))


@pytest.mark.parametrize("loader", [MultiProcessDataLoader, CachedDataLoader])
def test_worker_processes_open_the_files_themselves(questions, features, loader):
    vqa = reader(features)
    read_here = list(vqa.read(str(questions)))
    for instance in read_here:
        instance["regions"].array()  # this process has the file open, too
    streaming = {"max_instances_in_memory": 4} if loader is MultiProcessDataLoader else {}
    data = loader(vqa, str(questions), batch_size=1, num_workers=2, quiet=True, **streaming)
    data.index_with(Vocabulary.from_instances(read_here))
    found = {batch["metadata"][0]["question_id"]: batch["regions"][0] for batch in data}
    assert found.keys() == {70, 71, 120}
    for question, regions in found.items():
        torch.testing.assert_close(regions, torch.from_numpy(features_of("7" if question < 100 else "12")))


def test_the_fingerprint_tells_the_instances(questions, features):
    vqa = reader(features)
    before = vqa.fingerprint(str(questions))
    assert list(vqa.read(str(questions)))
    assert vqa.fingerprint(str(questions)) == reader(features).fingerprint(str(questions)) == before
    others = [
        reader(features).fingerprint(f"{questions}[:2]"),
        reader(features, has_answers=False).fingerprint(str(questions)),
        reader(features, tokenizer={"type": "character"}).fingerprint(str(questions)),
    ]
    os.utime(features, ns=(0, 0))
    others.append(reader(features).fingerprint(str(questions)))
    assert len({before, *others}) == 5


def test_an_image_in_the_second_file_is_found(questions, tmp_path):
    first = {name: array for name, array in layout().items() if name.startswith("7/")}
    second = {name: array for name, array in layout().items() if name.startswith("12/")}
    paths = [write_features(tmp_path / "a.h5", first), write_features(tmp_path / "b.npz", second)]
    instances = list(reader(region_features=list(map(str, paths))).read(str(questions)))
    np.testing.assert_array_equal(instances[2]["regions"].array(), features_of("12"))


def test_slices(questions, features):
    def ids(path):
        return [instance["metadata"]["question_id"] for instance in read(path, features)]

    assert ids(f"{questions}[:2]") == [70, 71]
    assert ids(f"{questions}[-1:]") == [120]
    assert len(read("sample:validation[:10%]")) == 80


def test_annotations_that_are_named(questions, features, tmp_path):
    elsewhere = [tmp_path / "first.json", tmp_path / "second.json"]
    for path, ids in zip(elsewhere, ([70], [71, 120]), strict=True):
        path.write_text(json.dumps({"annotations": [annotation(question_id) for question_id in ids]}))
    (tmp_path / ANNOTATIONS_NAME).unlink()
    instances = read(questions, features, annotations=list(map(str, elsewhere)))
    assert [instance["answer"].label for instance in instances] == ["black", "no", "2"]


def test_a_changed_annotation_is_read_anew(questions, features, tmp_path):
    assert read(questions, features)[1]["answer"].label == "no"
    path = tmp_path / ANNOTATIONS_NAME
    path.write_text(path.read_text().replace('"no"', '"maybe"'))
    assert read(questions, features)[1]["answer"].label == "maybe"


def test_questions_of_a_test_split(questions, features, tmp_path):
    (tmp_path / ANNOTATIONS_NAME).unlink()
    instances = read(questions, features, has_answers=False)
    assert "answer" not in instances[0].fields and "answer_scores" not in instances[0]["metadata"].metadata
    for vqa in (reader(features, has_answers=False), reader(features)):
        examples = list(vqa.read_examples(str(questions)))
        assert [example.gold for example in examples] == [None] * 3
        assert examples[0].inputs == {"question": "What color is the cat?", "image_id": "7"}


def test_to_predict_each_question_is_read_with_its_answer_if_it_has_one(questions, features, tmp_path):
    hidden = tmp_path / "without annotations.json"
    # With a byte order mark, as some editors write it.
    hidden.write_bytes(b"\xef\xbb\xbf" + questions.read_bytes())
    with_answers = read(questions, features)
    annotations = json.loads((tmp_path / ANNOTATIONS_NAME).read_text())["annotations"]
    (tmp_path / "some.json").write_text(json.dumps({"annotations": annotations[1:]}))
    answers = [instance["answer"].label for instance in with_answers]
    missing = {annotations[0]["question_id"]}
    some = [
        None if one["metadata"]["question_id"] in missing else answer
        for one, answer in zip(with_answers, answers, strict=True)
    ]
    none = [None] * len(answers)
    for path, given, expected in (
        (questions, None, answers),
        (hidden, None, none),
        (hidden, "some.json", some),
        (hidden, "elsewhere.json", none),
    ):
        given = given and str(tmp_path / given)
        instances = list(reader(features, annotations=given).to_predict().read(str(path)))
        assert [one["metadata"]["question"] for one in instances] == [
            one["metadata"]["question"] for one in with_answers
        ]
        assert [one["answer"].label if "answer" in one.fields else None for one in instances] == expected
        assert not any("answer_scores" in one["metadata"].metadata for one in instances)
    # What was read for predictions is not taken for what has all answers.
    with pytest.raises(ConfigurationError, match="no annotation with its question_id"):
        list(reader(features, annotations=str(tmp_path / "some.json")).read(str(hidden)))
    (of_the_sample,) = reader().to_predict().read("sample:validation[:1]")
    assert of_the_sample["answer"].label == next(iter(read("sample:validation[:1]")))["answer"].label


def test_one_answer_alone_and_the_most_frequent_of_several(questions, features, tmp_path):
    annotations = [
        {"question_id": 70, "multiple_choice_answer": "Black"},
        {"question_id": 71, "answers": [{"answer": "no"}, {"answer": "yes"}, {"answer": "yes"}]},
        {"question_id": 120, "answers": [{"answer": "two"}, {"answer": "3"}]},
    ]
    (tmp_path / ANNOTATIONS_NAME).write_text(json.dumps({"annotations": annotations}))
    instances = read(questions, features)
    assert [instance["answer"].label for instance in instances] == ["black", "yes", "2"]
    assert instances[0]["metadata"]["answer_scores"] == {"black": 1.0}


def test_an_archive(questions, features, tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in (QUESTIONS_NAME, ANNOTATIONS_NAME):
            archive.write(tmp_path / name, name)
    names = [f"{tmp_path}/all.zip!{name}" for name in (QUESTIONS_NAME, ANNOTATIONS_NAME)]
    assert [instance["answer"].label for instance in read(names[0], features)] == ["black", "no", "2"]


def test_the_sample():
    instances = read("sample:validation[:8]")
    assert {instance["metadata"]["image_id"] for instance in instances} == {"validation-0", "validation-1"}
    for instance in instances:
        metadata = instance["metadata"]
        assert metadata["answer_scores"] == {instance["answer"].label: 1.0}
        assert len(metadata["boxes"]) == len(metadata["region_names"]) == metadata["num_regions"]
    examples = list(reader().read_examples("sample:validation[:8]"))
    assert [example.gold for example in examples] == [instance["answer"].label for instance in instances]


def test_pictures_are_found_by_their_number(questions, features, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "COCO_train2014_000000000012.jpg").touch()
    metadata = read(f"{questions}[2:]", features, image_folder=str(folder))[0]["metadata"]
    assert metadata["image"] == str(folder / "COCO_train2014_000000000012.jpg")
    assert read(questions, features, image_folder=str(folder))[0]["metadata"]["image"] == ""
    assert "nowhere" in error_of(questions, features, image_folder="nowhere")


def test_regions_that_are_given():
    regions = Regions(np.ones((2, DIM), dtype=np.float32))
    instance = reader().text_to_instance("What is it?", regions=regions)
    assert instance["regions"].array().shape == (2, DIM)
    assert instance["metadata"]["image_id"] == "" and instance["metadata"]["boxes"] == []


# ---- what is wrong is named ----


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"12/features": None}, ["question 120", "image 12", '"12/features"', "features"]),
        ({"12/features": np.ones((4, 5), np.float32)}, ["question 120", "image 12", "dimension 5", "image 7 3"]),
        ({"12/features": np.ones(4, np.float32)}, ["image 12", "(4,)", "(num_regions, dim)"]),
        ({"12/features": np.ones((0, DIM), np.float32)}, ["image 12", "(0, 3)"]),
        ({"12/features": np.full((4, DIM), np.nan)}, ["image 12", "finite"]),
        ({"12/boxes": np.ones((3, 4))}, ["image 12", "(3, 4)", "(4, 4)"]),
        ({"12/image_size": None}, ["image 12", "fractions", "image_size"]),
        ({"12/image_size": np.array([640, 0])}, ["image 12", "image_size is [640, 0]"]),
        ({"7/names": np.array(["cat"])}, ["question 70", "image 7", "['cat']"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("name", ["features.h5", "features.npz"])
def test_mistakes_in_features(questions, tmp_path, name, changes, message):
    error = error_of(questions, write_features(tmp_path / name, layout(**changes)))
    assert all(part in error for part in [name, *message]), error


@pytest.mark.parametrize(
    "entry, message",
    [
        ({"image_id": 7, "question": "Who?"}, ["entry 3", '"question_id"']),
        ({"question_id": 9, "question": "Who?"}, ["entry 3", '"image_id"']),
        ({"question_id": 9, "image_id": 7, "question": " "}, ["question 9", "image 7", "sentence"]),
        ({"question_id": 9, "image_id": 7, "question": "Who?"}, ["question 9", "image 7", ANNOTATIONS_NAME]),
    ],
)
def test_mistakes_in_questions(questions, features, entry, message):
    questions.write_text(json.dumps({"questions": [*QUESTIONS, entry]}))
    error = error_of(questions, features)
    assert all(part in error for part in [QUESTIONS_NAME, *message]), error


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "not JSON"),
        ('{"annotations": 3}', '"annotations"'),
        ('{"questions": []}', "['questions']"),
        ('{"annotations": [{"question_id": 70}]}', "question 70"),
        ('{"annotations": [{"question_id": 70, "answers": [{"answer": 3}]}]}', "question 70"),
    ],
)
def test_mistakes_in_annotations(questions, features, tmp_path, content, message):
    (tmp_path / ANNOTATIONS_NAME).write_text(content)
    error = error_of(questions, features)
    assert ANNOTATIONS_NAME in error and message in error


def test_what_is_not_there_is_named(questions, features, tmp_path):
    assert "no.json" in error_of(tmp_path / "no.json", features, annotations=str(tmp_path / ANNOTATIONS_NAME))
    assert "no.h5" in error_of(questions, tmp_path / "no.h5")
    assert "features.txt" in error_of(questions, tmp_path / "features.txt")
    assert "train, validation" in error_of("sample:test")
    assert "[a:b]" in error_of(f"{questions}[a:b]", features)
    assert "region_features" in error_of(questions)
    (tmp_path / "no_names.json").write_text(questions.read_text())
    assert "has_answers" in error_of(tmp_path / "no_names.json", features)
    (tmp_path / ANNOTATIONS_NAME).unlink()
    assert ANNOTATIONS_NAME in error_of(questions, features)
    questions.write_text('{"questions": []}')
    assert "no questions" in error_of(questions, features, has_answers=False)
