"""The JSON of `allennlp serve-attention`, asked of the real command over HTTP."""

import asyncio
import json
import re
import socket
import time
from http.client import HTTPResponse

import httpx
import pytest
from allennlp.models.archival import load_archive
from allennlp.predictors import Predictor

from regattn_allennlp.server.schema import AttentionAnswer, Problem
from regattn_allennlp.server.tasks import EntailmentTask
from regattn_allennlp.visualization import attention_map
from tests.server.conftest import ITEMS

PREMISE = "A small dog is sleeping in the garden, and a cat is sitting on the table."
HYPOTHESIS = "An animal is asleep outside."
PAIR = {"premise": PREMISE, "hypothesis": HYPOTHESIS}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def client(address):
    with httpx.Client(base_url=address, timeout=60) as client:
        yield client


def ask(client, **request):
    response = client.post("/api/attention", json={**PAIR, **request})
    assert response.status_code == 200, response.text
    return {archive["name"]: archive for archive in response.json()["archives"]}


def predict(path, attention=None):
    """What the predictor says, of a model that was loaded with another attention in its config."""
    archive = load_archive(path, overrides=json.dumps({"model.attention": attention}) if attention else "")
    return Predictor.from_archive(archive, "entailment").predict(PREMISE, HYPOTHESIS)


def assert_same(answered, predicted):
    assert answered["label"] == predicted["label"]
    assert answered["probabilities"] == predicted["probabilities"]
    for direction in "premise_to_hypothesis", "hypothesis_to_premise":
        rows, columns = direction.split("_to_")
        assert answered[direction]["weights"] == predicted[f"{direction}_attention"]
        assert answered[direction]["rows"] == predicted[f"{rows}_tokens"]
        assert answered[direction]["columns"] == predicted[f"{columns}_tokens"]
        assert answered[direction]["unknown_rows"] == predicted[f"{rows}_unknown"]
        assert answered[direction]["unknown_columns"] == predicted[f"{columns}_unknown"]
        assert answered[direction]["groups"] == json.loads(json.dumps(attention_map(predicted, direction)["groups"]))


def test_tells_what_is_loaded(client):
    told = client.get("/api/archives").json()
    assert [field["name"] for field in told["task"]["fields"]] == ["premise", "hypothesis"]
    assert [view["name"] for view in told["task"]["views"]] == ["hypothesis_to_premise", "premise_to_hypothesis"]
    for parameter in (parameter for archive in told["archives"] for parameter in archive["parameters"]):
        assert parameter.pop("explanation") and parameter.pop("upper_bound") == 1e6
    for archive in told["archives"]:
        assert archive.pop("self_attention") == {}
    assert {key: told[key] for key in ("archives", "max_characters", "max_tokens")} == {
        "archives": [
            {
                "name": "fusedmax",
                "operator": "fusedmax",
                "parameters": [
                    {"name": "gamma", "trained": 1.0, "lower_bound": 0.0, "may_be_lower_bound": False},
                    {"name": "lam", "trained": 0.1, "lower_bound": 0.0, "may_be_lower_bound": True},
                ],
            },
            {
                "name": "entmax",
                "operator": "entmax",
                "parameters": [
                    {"name": "gamma", "trained": 0.5, "lower_bound": 0.0, "may_be_lower_bound": False},
                    {"name": "alpha", "trained": 1.5, "lower_bound": 1.0, "may_be_lower_bound": True},
                ],
            },
        ],
        "max_characters": 1000,
        "max_tokens": 100,
    }


def test_answers_what_the_predictor_says(client, archives):
    answered = ask(client)
    assert list(answered) == ["fusedmax", "entmax"]
    for name, path in archives.items():
        assert_same(answered[name], predict(path))
        assert sum(answered[name]["probabilities"].values()) == pytest.approx(1)
        for row in answered[name]["hypothesis_to_premise"]["weights"]:
            assert sum(row) == pytest.approx(1)
    assert answered["fusedmax"]["regularization"] == {"gamma": 1.0, "lam": 0.1}


@pytest.mark.parametrize(
    "name, values", [("fusedmax", {"gamma": 0.02, "lam": 3.0}), ("fusedmax", {"lam": 0.0}), ("entmax", {"alpha": 1.0})]
)
def test_other_regularization_is_that_of_a_model_configured_so(client, archives, name, values):
    answered = ask(client, regularization={name: values})
    trained = {"fusedmax": {"gamma": 1.0, "lam": 0.1}, "entmax": {"gamma": 0.5, "alpha": 1.5}}
    assert answered[name]["regularization"] == {**trained[name], **values}
    assert_same(answered[name], predict(archives[name], {"type": name, **trained[name], **values}))
    assert answered[name] != ask(client)[name]
    (other,) = set(archives) - {name}
    assert answered[other] == ask(client)[other]


def test_a_hundred_at_once_are_all_answered_each_with_its_own_regularization(client, address):
    gammas = [0.01 * 1.2**index for index in range(25)]
    alone = {gamma: ask(client, regularization={"fusedmax": {"gamma": gamma}}) for gamma in gammas}
    assert len({json.dumps(answer) for answer in alone.values()}) > 15, "too few differ to tell them apart"
    trained = ask(client)

    async def ask_all():
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as many:
            return await asyncio.gather(
                *(
                    many.post("/api/attention", json={**PAIR, "regularization": {"fusedmax": {"gamma": gamma}}})
                    for gamma in gammas * 4
                )
            )

    for gamma, response in zip(gammas * 4, asyncio.run(ask_all()), strict=True):
        assert response.status_code == 200
        assert {archive["name"]: archive for archive in response.json()["archives"]} == alone[gamma]
    assert ask(client) == trained


def test_examples_have_what_the_predictors_say_of_them(client, archives):
    told = client.get("/api/examples", params={"count": 100}).json()
    while told["predicted"] < told["total"]:
        time.sleep(0.1)
        told = client.get("/api/examples", params={"count": 100}).json()
    wrong = []
    for name, path in archives.items():
        predictor = Predictor.from_archive(load_archive(path), "entailment")
        for example, item in zip(told["examples"], ITEMS, strict=True):
            expected = predictor.predict_json(item)
            (prediction,) = (one for one in example["predictions"] if one["name"] == name)
            assert prediction["text"] == expected["label"]
            assert prediction["probability"] == pytest.approx(max(expected["probabilities"].values()), abs=1e-5)
            assert prediction["is_right"] == (expected["label"] == item["label"] if "label" in item else None)
            for direction, fraction in prediction["zero_fractions"].items():
                weights = [weight for row in expected[f"{direction}_attention"] for weight in row]
                assert fraction == pytest.approx(weights.count(0) / len(weights))
            if prediction["is_right"] is False:
                wrong.append(example["number"])
    asked = client.get("/api/examples", params={"correctness": "wrong"}).json()
    assert [example["number"] for example in asked["examples"]] == sorted(set(wrong)) != []


@pytest.mark.parametrize(
    "query, message",
    [
        ("count=101", '"count": Input should be less than or equal to 100'),
        ("sorted=x", '"sorted": Extra inputs are not permitted'),
        (
            "models=fusedmax+right",
            'there is "disagree", "fusedmax right, entmax wrong", "entmax right, fusedmax wrong"',
        ),
    ],
)
def test_a_query_that_cannot_be_is_told_what_would_be_right(client, query, message):
    response = client.get(f"/api/examples?{query}")
    assert response.status_code == 422 and message in response.json()["error"]


def body(**fields):
    return json.dumps({**PAIR, **fields})


@pytest.mark.parametrize(
    "content, status, message",
    [
        ('{"premise": "A dog.", ', 400, "no JSON.*A request is JSON"),
        ("", 422, "Content-Type: application/json"),
        ("[" * 50_000, 400, "A request is JSON"),
        (b'{"premise": "\xff", "hypothesis": "b"}', 400, "A request is JSON"),
        ("null", 422, "A request is JSON"),
        ('["A dog.", "An animal."]', 422, "A request is JSON"),
        ('{"premise": "A dog."}', 422, '"hypothesis": Field required'),
        (body(premiss="A dog."), 422, '"premiss": Extra inputs are not permitted'),
        (body(premise=3), 422, '"premise": Input should be a valid string'),
        (body(premise=" \t\n"), 422, '"premise" is blank; write a sentence'),
        (body(hypothesis=""), 422, '"hypothesis" is blank'),
        (body(hypothesis="\ud800"), 422, '"hypothesis" has half of a surrogate pair'),
        (body(premise="a" * 1001), 422, '"premise" has 1,001 characters; no more than 1,000 are taken'),
        (body(hypothesis="a " * 101), 422, '"hypothesis" has 101 words .* no more than 100 are taken'),
        (body(regularization={"fusdmax": {"lam": 1}}), 422, 'no archive "fusdmax"; there are "fusedmax", "entmax"'),
        (body(regularization={"entmax": {"lam": 1}}), 422, "\"entmax\": Entmax has no 'lam'; .*alpha"),
        (body(regularization={"fusedmax": {"gamma": 0}}), 422, '"fusedmax": gamma must be .* above 0, but is 0'),
        (body(regularization={"fusedmax": {"lam": -0.1}}), 422, '"fusedmax": lam must be .* 0 or above, but is -0.1'),
        (body(regularization={"entmax": {"alpha": 0.9}}), 422, '"entmax": alpha must be .* 1 or above, but is 0.9'),
        (body(regularization={"fusedmax": {"gamma": float("nan")}}), 422, "fusedmax.gamma.*finite number"),
        (body(regularization={"fusedmax": {"gamma": float("inf")}}), 422, "fusedmax.gamma.*finite number"),
        (body(regularization={"fusedmax": {"gamma": 1e7}}), 422, "fusedmax.gamma.*less than or equal to 1000000"),
        (body(regularization={"fusedmax": {"gamma": "1"}}), 422, "fusedmax.gamma.*valid number"),
        (body(regularization={"fusedmax": {"gamma": True}}), 422, "fusedmax.gamma.*valid number"),
        (body(regularization=[1]), 422, "regularization.*valid dictionary"),
        (body(without={"premis": [1]}), 422, '"without": there is no "premis"; there are "premise", "hypothesis"'),
        (body(without={"hypothesis": [1, 6]}), 422, '"hypothesis" has 6 words, from 0, but no number 6'),
        (body(without={"hypothesis": [0, 1, 2, 3, 4, 5]}), 422, 'nothing of "hypothesis" is left'),
        (body(without={"premise": [-1]}), 422, "without.premise.*greater than or equal to 0"),
    ],
    ids=range(29),
)
def test_a_request_that_cannot_be_answered_is_told_what_would_be_right(client, content, status, message):
    response = client.post("/api/attention", content=content, headers=JSON)
    assert response.status_code == status, response.text
    problem = Problem.model_validate_json(response.content, strict=True)
    assert set(response.json()) <= {"error", "field"}
    assert re.search(message, problem.error), problem.error
    # The page ties what is said to the field that it is about.
    about = re.match(r'"(premise|hypothesis)" (is blank|has)', problem.error)
    assert problem.field == (about and about[1])


@pytest.mark.parametrize(
    "fields",
    [r'"\ud800": 1', r'"regularization": {"\ud800": {}}', r'"regularization": {"fusedmax": {"\udfff": 1}}'],
)
def test_half_a_surrogate_pair_as_a_key_is_told_of(client, fields):
    content = f'{{"premise": "A dog.", "hypothesis": "An animal.", {fields}}}'
    response = client.post("/api/attention", content=content, headers=JSON)
    assert response.status_code == 422
    assert re.search(r"\\ud800|\\udfff|unicode string", response.json()["error"])


def test_large_answers_are_compressed_for_those_who_take_it(client):
    sizes = {}
    for encoding in "gzip", "identity":
        with client.stream("POST", "/api/attention", json=PAIR, headers={"Accept-Encoding": encoding}) as response:
            assert response.headers.get("Content-Encoding", "identity") == encoding
            sizes[encoding] = sum(map(len, response.iter_raw()))
    assert sizes["gzip"] < sizes["identity"] / 3
    assert "Content-Encoding" not in client.get("/api/examples?count=1").headers


def test_limits_are_those_that_are_told(client):
    assert client.post("/api/attention", json={**PAIR, "premise": "a" * 1000}).status_code == 200
    assert client.post("/api/attention", json={**PAIR, "hypothesis": "a " * 100}).status_code == 200
    # What takes the most bytes that 1,000 characters can have.
    largest = {"premise": "\U0001f600" * 1000, "hypothesis": "\U0001f600" * 1000}
    response = client.post("/api/attention", content=json.dumps(largest), headers=JSON)
    assert response.status_code == 422 and "words" in response.json()["error"], response.text


@pytest.mark.parametrize(
    "header, sent",
    [
        ("Content-Length: 1000000000", b""),
        # One chunk, and half of the next.
        ("Transfer-Encoding: chunked", b"10000\r\n" + b" " * 2**16 + b"\r\n20000\r\n" + b" " * 2**16),
    ],
    ids=["announced", "not announced"],
)
def test_a_large_body_is_refused_before_it_is_read(client, address, header, sent):
    url = httpx.URL(address)
    with socket.create_connection((url.host, url.port), timeout=30) as connection:
        lines = ("POST /api/attention HTTP/1.1", "Host: localhost", "Content-Type: application/json", header, "", "")
        connection.sendall("\r\n".join(lines).encode() + sent)
        response = HTTPResponse(connection)
        response.begin()
        assert response.status == 413
        assert "too large; no more than 89,536 bytes" in json.loads(response.read())["error"]
    assert ask(client)


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/nothing", 404), ("GET", "/docs", 404), ("GET", "/redoc", 404), ("GET", "/files/nothing.js", 404),
    ("GET", "/files/..%2Fschema.py", 404), ("GET", "/api/attention", 405), ("POST", "/", 405),
    ("DELETE", "/api/archives", 405),
])  # fmt: skip
def test_there_is_nothing_else(client, method, path, status):
    response = client.request(method, path)
    assert response.status_code == status
    assert Problem.model_validate(response.json()).error
    assert (response.headers.get("Allow") is None) == (status == 404)


@pytest.mark.parametrize("path", ["/", "/files/page.js", "/files/heat_map.css", "/api/archives", "/nothing"])
def test_every_answer_forbids_what_comes_from_elsewhere(client, path):
    headers = client.get(path).headers
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("host, status", [
    ("localhost", 200), ("LOCALHOST:8000", 200), ("127.0.0.1:9", 200), ("[::1]:8000", 200), ("example.org", 400),
    ("127.0.0.1.example.org", 400),
    ("user@localhost", 400), ("localhost/path", 400), ("localhost.example.org:8000", 400), ("[::1", 400), ("", 400),
])  # fmt: skip
def test_answers_to_this_machines_names_alone(client, host, status):
    for path in "/", "/api/archives":
        response = client.get(path, headers={"Host": host})
        assert response.status_code == status
        if status == 400:
            assert "127.0.0.1, ::1, localhost" in response.json()["error"]
            assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_the_schema_is_that_of_the_answers(client):
    schema = client.get("/openapi.json").json()
    post = schema["paths"]["/api/attention"]["post"]["responses"]
    assert set(post) == {"200", "400", "408", "413", "422", "500", "503"}
    for status, response in post.items():
        name = "AttentionAnswer_EntailmentAnswer_" if status == "200" else "Problem"
        assert response["content"]["application/json"]["schema"] == {"$ref": f"#/components/schemas/{name}"}
    assert "HTTPValidationError" not in schema["components"]["schemas"]
    for name, model in schema["components"]["schemas"].items():
        for field, description in model["properties"].items():
            assert description.get("description"), f"{name}.{field}"
    request = schema["components"]["schemas"]["EntailmentRequest"]
    assert request["required"] == ["premise", "hypothesis"] and request["additionalProperties"] is False
    answered = client.post("/api/attention", json=PAIR).json()
    validated = AttentionAnswer[EntailmentTask.answer].model_validate(answered)
    assert validated.model_dump(mode="json", exclude_none=True) == answered
