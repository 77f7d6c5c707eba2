"""What `serve` can and replicas cannot is refused by name."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.settings.cluster import ClusterSettings


@pytest.mark.parametrize(
    ("fields", "option"),
    [
        ({"rpc": "127.0.0.1:50052"}, "--rpc"),
        ({"sleep_idle": 60}, "--sleep-idle"),
        ({"prompt_cache_dir": "/tmp"}, "--prompt-cache-dir"),
        ({"replicas": 3, "max_replicas": 2}, "--max-replicas"),
    ],
)
def test_what_replicas_cannot_do(fields: dict[str, Any], option: str) -> None:
    with pytest.raises(ValidationError, match=option):
        ClusterSettings(**fields)


def test_what_is_left_is_taken() -> None:
    assert ClusterSettings(replicas=3, max_replicas=4).most_replicas == 4
