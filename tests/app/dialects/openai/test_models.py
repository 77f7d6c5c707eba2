"""Clients learn what a model is and what is not done for it."""

from dataclasses import replace

from tests.app.fake_backend import FAKE, FakeBackend
from tests.app.in_process import served


def test_the_card_tells_memory_and_limits() -> None:
    info = replace(FAKE, architecture="mamba2", memory="recurrent", limits=("no drafts",))
    with served(FakeBackend(info=info)) as client:
        card = client.get("/v1/models/fake").json()
        (listed,) = client.get("/v1/models").json()["data"]
    assert card == listed
    assert card["architecture"] == "mamba2"
    assert card["memory"] == "recurrent"
    assert card["vocabulary"] == "bpe"
    assert card["limits"] == ["no drafts"]
