"""Lines of a key file: plain keys, and keys with what they may take."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.door.keys import ApiKey, Rates
from app.settings import ServerSettings
from app.settings.keys import read_keys
from medusa.engine.fairness import Tenant
from tests.app.door.test_rates import ENDPOINTS
from tests.app.fake_backend import FakeBackend
from tests.app.in_process import served


def test_plain_lines_are_keys() -> None:
    assert read_keys(["one", "", "  two  "]) == [
        ApiKey("one", Tenant("key-1")),
        ApiKey("two", Tenant("key-2")),
    ]


def test_a_key_may_look_like_base64_or_be_a_sentence() -> None:
    lines = ["YWJj==", "correct horse battery weight=2"]
    assert [each.key for each in read_keys(lines)] == ["YWJj==", "correct horse battery"]
    assert read_keys(lines)[1].tenant.weight == 2


def test_a_line_says_what_its_key_may_take() -> None:
    (found,) = read_keys(["secret  name=alice\tweight=2.5 rpm=60 tpm=100000"])
    assert found == ApiKey("secret", Tenant("alice", 2.5), Rates(60, 100_000))
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    "said", ["weight=0", "weight=nan", "weight=x", "rpm=0", "rpm=1.5", "tpm=-1", "name=", "pace=3"]
)
def test_what_cannot_be_is_refused_without_showing_the_key(said: str) -> None:
    with pytest.raises(ValueError, match=f"key 2: {said}") as refused:
        read_keys(["one", f"secret {said}"])
    assert "secret" not in str(refused.value)


def test_names_are_told_apart() -> None:
    with pytest.raises(ValueError, match="two keys are called 'alice'"):
        read_keys(["one name=alice", "two name=alice"])


def test_the_file_adds_to_the_option(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("three weight=4\n")
    settings = ServerSettings(api_key="one,two", api_key_file=file)
    assert [(k.key, k.tenant.name, k.tenant.weight) for k in settings.api_keys] == [
        ("one", "key-1", 1.0),
        ("two", "key-2", 1.0),
        ("three", "key-3", 4.0),
    ]


def test_a_wrong_file_is_told_of_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("secret weigth=4\n")
    with pytest.raises(ValidationError, match="weigth"):
        ServerSettings(api_key_file=file)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_every_dialect_hands_on_whose_a_request_is_and_how_urgent(path: str) -> None:
    backend, alice = FakeBackend(), Tenant("alice", 3.0)
    with served(backend, api_keys=[ApiKey("secret", alice)]) as client:
        headers = {"Authorization": "Bearer secret"}
        for priority in ({"priority": -5}, {}):
            answer = client.post(path, json=ENDPOINTS[path] | priority, headers=headers)
            assert answer.status_code == 200
    assert [(each.tenant, each.priority) for each in backend.submitted] == [(alice, -5), (alice, 0)]
