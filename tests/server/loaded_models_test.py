"""One request after the other, however they come and end; by an application in this process, with models that wait."""

import asyncio
import threading
import time

import httpx
import pytest
import torch
import uvicorn
from allennlp.models.archival import load_archive
from allennlp.predictors import Predictor

from regattn_allennlp.data.example import Example
from regattn_allennlp.operators import CustomMax, Oscarmax, RegularizedMax, SquaredPNormMax
from regattn_allennlp.predictors.archives import NamedPredictor
from regattn_allennlp.server import LoadedModels, create_application, open_socket
from regattn_allennlp.server.tasks.entailment import EntailmentRequest

PAIR = {"premise": "A dog is sleeping in the garden.", "hypothesis": "An animal is outside."}
REQUEST = EntailmentRequest(**PAIR, regularization={"fusedmax": {"gamma": 0.1, "lam": 2.0}})


@pytest.fixture(scope="module")
def predictor(archive):
    return Predictor.from_archive(load_archive(archive), "entailment")


@pytest.fixture
def models(predictor):
    return LoadedModels([NamedPredictor("fusedmax", predictor)])


@pytest.fixture
def serve():
    """Serves an application from a thread until the test is over; gives its address."""
    servers = []

    def start(application):
        opened = open_socket("127.0.0.1", 0)
        server = uvicorn.Server(uvicorn.Config(application, log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        servers.append((server, thread, opened))
        while not server.started:
            time.sleep(0.01)
        return f"http://127.0.0.1:{opened.getsockname()[1]}"

    yield start
    for server, thread, opened in servers:
        server.should_exit = True
        thread.join(timeout=30)
        opened.close()
        assert not thread.is_alive()


class Gate:
    """Stands before `predict`: lets requests in one by one, and writes down which came and how many at a time."""

    def __init__(self, models, monkeypatch):
        self.open, self.entered, self.most_at_once = threading.Event(), [], 0
        self._inside, self._predict = 0, models.predict
        monkeypatch.setattr(models, "predict", self)

    def __call__(self, request):
        self._inside += 1
        self.most_at_once = max(self.most_at_once, self._inside)
        self.entered.append(request.premise)
        assert self.open.wait(timeout=30)
        try:
            return self._predict(request)
        finally:
            self._inside -= 1


def test_the_page_answers_while_requests_wait_in_line(models, serve, monkeypatch):
    gate = Gate(models, monkeypatch)
    address = serve(create_application(models, None))
    premises = [f"A dog has {index} cats." for index in range(5)]

    async def ask():
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            waiting = []
            for premise in premises:
                waiting.append(asyncio.create_task(client.post("/api/attention", json={**PAIR, "premise": premise})))
                await asyncio.sleep(0.05)
            started = time.monotonic()
            assert (await client.get("/")).status_code == 200
            assert (await client.get("/api/archives")).status_code == 200
            assert time.monotonic() - started < 5
            assert gate.entered == premises[:1], "there was nothing to wait for"
            gate.open.set()
            return await asyncio.gather(*waiting)

    answers = asyncio.run(ask())
    assert [answer.status_code for answer in answers] == [200] * 5
    assert gate.entered == premises
    assert gate.most_at_once == 1


def test_requests_whose_client_has_gone_are_not_predicted(models, serve, monkeypatch):
    gate = Gate(models, monkeypatch)
    address = serve(create_application(models, None))

    async def ask():
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            names = "first", "gone", "last"
            first, gone, last = [
                asyncio.create_task(client.post("/api/attention", json={**PAIR, "premise": name})) for name in names
            ]
            while not gate.entered:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            waiting = {"first": first, "gone": gone, "last": last}
            waiting.pop(gate.entered[0])
            (aborted, task), *_ = waiting.items()
            task.cancel()
            await asyncio.sleep(0.2)
            gate.open.set()
            results = await asyncio.gather(first, gone, last, return_exceptions=True)
            return aborted, results

    aborted, results = asyncio.run(ask())
    assert aborted not in gate.entered and len(gate.entered) == 2
    assert sum(isinstance(result, httpx.Response) and result.status_code == 200 for result in results) == 2


def test_examples_are_predicted_between_requests_and_what_cannot_be_is_left_out(predictor, serve, monkeypatch):
    long = Example({"premise": "a " * 200, "hypothesis": "b"}, "neutral")
    blank = Example({"premise": "a"}, "neutral")
    examples = [long, blank, *[Example(PAIR, None)] * 40]
    models = LoadedModels([NamedPredictor("fusedmax", predictor)], examples=examples)
    predict_batch, sizes = predictor.predict_batch_instance, []

    def slowly(instances):
        sizes.append(len(instances))
        time.sleep(0.05 * len(instances))
        return predict_batch(instances)

    monkeypatch.setattr(predictor, "predict_batch_instance", slowly)
    address = serve(create_application(models, None))
    times = []
    with httpx.Client(base_url=address, timeout=30) as client:
        while (told := client.get("/api/examples?count=50").json())["predicted"] < len(examples):
            started = time.monotonic()
            assert client.post("/api/attention", json=PAIR).status_code == 200
            times.append(time.monotonic() - started)
    assert len(times) > 5 and sorted(times)[len(times) // 2] < 1, "requests waited for the examples"
    assert sum(sizes) == 40
    assert [len(example["predictions"]) for example in told["examples"]] == [0, 0, *[1] * 40]


def test_a_failure_leaves_the_model_as_it_was_trained(models, predictor, serve, monkeypatch):
    address = serve(create_application(models, None))
    trained = predictor._model.attention.regularized_max
    before = models.predict(EntailmentRequest(**PAIR))
    seen = []

    def fail(instance):
        seen.append(predictor._model.attention.regularized_max.gamma)
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(predictor, "predict_instance", fail)
        response = httpx.post(f"{address}/api/attention", json=REQUEST.model_dump(), timeout=30)
    assert seen == [0.1]
    assert response.status_code == 500 and "The server failed" in response.json()["error"]
    assert "out of memory" not in response.text
    assert predictor._model.attention.regularized_max is trained
    assert models.predict(EntailmentRequest(**PAIR)) == before != models.predict(REQUEST)


def test_the_trained_values_are_told_while_others_are_in_use(models, predictor, monkeypatch):
    trained, seen = models.archives(), []
    predict_instance = predictor.predict_instance

    def look_and_predict(instance):
        seen.append((predictor._model.attention.regularized_max.gamma, models.archives()))
        return predict_instance(instance)

    monkeypatch.setattr(predictor, "predict_instance", look_and_predict)
    models.predict(REQUEST)
    assert seen == [(0.1, trained)]


OPERATORS = [
    *(RegularizedMax.by_name(name)() for name in ("softmax", "sparsemax", "fusedmax", "oscarmax", "entmax")),
    SquaredPNormMax(exponent=1.2),
    CustomMax(lambda weights: (weights**3).sum(-1)),
    Oscarmax(lam=0.3, learn_gamma=True, learn_lam=True),
]


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: type(operator).__name__)
@pytest.mark.filterwarnings("error")
def test_every_parameter_of_every_operator_can_be_moved(predictor, operator):
    attention = predictor._model.attention
    trained = attention.regularized_max
    attention.regularized_max = operator
    try:
        models = LoadedModels([NamedPredictor("fusedmax", predictor)])
        (archive,) = models.archives().archives
        assert RegularizedMax.by_name(archive.operator) is type(operator)
        assert [parameter.name for parameter in archive.parameters] == operator.regularization_names()
        before = models.predict(EntailmentRequest(**PAIR)).archives[0]
        for parameter in archive.parameters:
            assert before.regularization[parameter.name] == parameter.trained
            assert parameter.trained == pytest.approx(torch.as_tensor(getattr(operator, parameter.name)).item())
            value = parameter.lower_bound + 3.0
            request = EntailmentRequest(**PAIR, regularization={"fusedmax": {parameter.name: value}})
            models.check(request)
            after = models.predict(request).archives[0]
            assert after.regularization == {**before.regularization, parameter.name: value}
            assert after.hypothesis_to_premise.weights != before.hypothesis_to_premise.weights
    finally:
        attention.regularized_max = trained
