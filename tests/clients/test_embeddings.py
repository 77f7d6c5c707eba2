"""Embeddings and rankings over HTTP, with the official OpenAI client."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openai import BadRequestError, InternalServerError, OpenAI

from medusa.llama.model import Model
from medusa.llama.pooled_context import PooledContext
from tests.app.conftest import Server, running_server
from tests.app.exact_model import write_exact_model
from tests.architectures.embedding_models import EMBEDDING_MODELS
from tests.architectures.writer import write_model

TEXTS = ["abc", "The sky is blue.", "x" * 150, "abc"]


@pytest.fixture(scope="module")
def generating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Model]]:
    yield from served(tmp_path_factory.mktemp("generating"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Model]]:
    yield from served(tmp_path_factory.mktemp("bert"), "bert-cls")


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Model]]:
    yield from served(tmp_path_factory.mktemp("reranker"), "bert-reranker")


def served(folder: Path, name: str | None = None) -> Iterator[tuple[Server, Model]]:
    path = folder / "tiny.gguf"
    if name is None:
        write_exact_model(path)
    else:
        write_model(EMBEDDING_MODELS[name], path)
    model = Model(path)
    with running_server(folder, str(path), "--no-supervise", "-np", "3") as server:
        yield server, model
    model.close()


def embed(client: OpenAI, texts: list[str], **fields: Any) -> np.ndarray:
    answer = client.embeddings.create(model="default", input=texts, **fields)
    assert [each.index for each in answer.data] == list(range(len(texts)))
    return np.array([each.embedding for each in answer.data], np.float32)


def pooled(model: Model, texts: list[str], pooling: str | None = None) -> np.ndarray:
    context = PooledContext(model, 512, 1, n_threads=1, pooling=pooling)
    found = np.array([context.embed([model.tokenize(text)])[0] for text in texts])
    context.close()
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_a_model_that_generates_embeds_by_the_mean_of_its_hidden_states(
    generating: tuple[Server, Model],
) -> None:
    server, model = generating
    client = server.client()
    found = embed(client, TEXTS)
    np.testing.assert_allclose(found, pooled(model, TEXTS, "mean"), atol=1e-5)
    assert np.array_equal(found[0], found[3])
    (alone,) = embed(client, TEXTS[:1])
    assert np.array_equal(found[0], alone), "company changes nothing"


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embeddings"])
def test_numbers_come_as_a_list_or_in_base64(generating: tuple[Server, Model], path: str) -> None:
    http = generating[0].http
    body = {"input": "abc", "encoding_format": "base64", "user": "me"}
    coded = http.post(path, json=body).json()["data"][0]["embedding"]
    plain = http.post(path, json={"input": "abc"}).json()["data"][0]["embedding"]
    assert np.array_equal(np.frombuffer(base64.b64decode(coded), "<f4"), np.array(plain, "<f4"))


def test_ids_are_taken_for_texts_and_tokens_are_counted(generating: tuple[Server, Model]) -> None:
    server, model = generating
    http, ids = server.http, model.tokenize(TEXTS[1])
    forms = [TEXTS[1], ids, [TEXTS[1]], [ids], [ids, TEXTS[1]]]
    answers = [http.post("/v1/embeddings", json={"input": form}).json() for form in forms]
    vectors = [each["embedding"] for answer in answers for each in answer["data"]]
    assert all(vector == vectors[0] for vector in vectors)
    assert answers[-1]["usage"] == {"prompt_tokens": 2 * len(ids), "total_tokens": 2 * len(ids)}
    assert answers[0]["object"] == "list"
    assert answers[0]["data"][0]["object"] == "embedding"


def test_fewer_dimensions_are_the_first_ones_made_of_length_one(
    generating: tuple[Server, Model],
) -> None:
    client = generating[0].client()
    whole, short = embed(client, TEXTS[:1])[0], embed(client, TEXTS[:1], dimensions=10)[0]
    np.testing.assert_allclose(short, whole[:10] / np.linalg.norm(whole[:10]), atol=1e-6)
    with pytest.raises(BadRequestError, match="dimensions, not 500") as caught:
        embed(client, TEXTS[:1], dimensions=500)
    assert caught.value.param == "dimensions"


def test_many_texts_are_taken_at_once_beside_answers(generating: tuple[Server, Model]) -> None:
    server, model = generating
    client = server.client()
    texts = [f"number {number}" for number in range(300)]
    found = embed(client, texts)
    np.testing.assert_allclose(found, pooled(model, texts, "mean"), atol=1e-5)
    server.wait_idle()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": 3}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": [10**6]}, "input"),
        ({"input": "a" * 600}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
    ],
)
def test_what_cannot_be_embedded_is_refused_by_name(
    generating: tuple[Server, Model], body: dict[str, object], param: str
) -> None:
    answer = generating[0].http.post("/v1/embeddings", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_an_embedding_model_is_served_and_writes_nothing(bert: tuple[Server, Model]) -> None:
    server, model = bert
    client = server.client()
    np.testing.assert_allclose(embed(client, TEXTS), pooled(model, TEXTS), atol=0.02)
    with pytest.raises(BadRequestError, match="cannot generate text"):
        client.completions.create(model="default", prompt="Hi")
    with pytest.raises(BadRequestError, match="cannot generate text"):
        client.chat.completions.create(
            model="default", messages=[{"role": "user", "content": "Hi"}]
        )
    assert "vectors:  pooled by cls" in server.log.read_text()


def test_a_reranking_model_orders_documents(reranker: tuple[Server, Model]) -> None:
    server, model = reranker
    body: dict[str, Any] = {
        "query": "Is it blue?",
        "documents": [*TEXTS[:3], {"text": "no"}],
        "model": "default",
    }
    texts = [*TEXTS[:3], "no"]
    answer = server.http.post("/v1/rerank", json=body).json()
    context = PooledContext(model, 512, 1, n_threads=1)
    expected = [float(context.embed([model.pair("Is it blue?", t)])[0][0]) for t in texts]
    context.close()
    results = answer["results"]
    scores = {each["index"]: each["relevance_score"] for each in results}
    assert [scores[i] for i in range(4)] == pytest.approx(expected, abs=0.05)
    assert [each["relevance_score"] for each in results] == sorted(scores.values(), reverse=True)
    assert answer["usage"]["total_tokens"] > 0
    body |= {"top_n": 2, "return_documents": True}
    best = server.http.post("/rerank", json=body).json()["results"]
    assert [each["index"] for each in best] == [each["index"] for each in results[:2]]
    assert [each["document"]["text"] for each in best] == [texts[each["index"]] for each in best]
    assert "document" not in results[0]
    inference = server.http.post("/rerank", json={"query": "Is it blue?", "texts": texts}).json()
    assert inference == [
        {"index": each["index"], "score": each["relevance_score"]} for each in results
    ]
    both = server.http.post("/rerank", json=body | {"texts": texts})
    assert (both.status_code, "texts" in both.json()["error"]["message"]) == (400, True)


def test_who_cannot_do_it_says_what_can(
    generating: tuple[Server, Model], reranker: tuple[Server, Model]
) -> None:
    answer = generating[0].http.post("/v1/rerank", json={"query": "a", "documents": ["b"]})
    assert answer.status_code == 501
    assert "serve a reranking model" in answer.json()["error"]["message"]
    with pytest.raises(InternalServerError, match="use /v1/rerank") as caught:
        embed(reranker[0].client(), TEXTS)
    assert caught.value.status_code == 501
