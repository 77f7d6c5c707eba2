"""The names of the metrics, and that the dashboard asks for what there is."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from app.dialects.dialect import Service
from medusa.engine.report import StepReport
from tests.app.fake_backend import FakeBackend
from tests.app.in_process import served

DASHBOARD = Path(__file__).parents[2] / "docs" / "operations" / "dashboard.json"
STEP = StepReport(
    n_decoding=1,
    batch_tokens=4,
    emitted_tokens=3,
    proposed={"heads": 2, "grammar": 1},
    accepted={"heads": 1, "grammar": 1},
)


@pytest.fixture
def client() -> Iterator[TestClient]:
    """Of a server that has done something."""
    with served(FakeBackend()) as client:
        client.post("/v1/completions", json={"prompt": "Hi"}).raise_for_status()
        service: Service = client.app.state.service  # type: ignore[attr-defined]
        service.metrics.observe_step(STEP)
        yield client


def families(client: TestClient) -> dict[str, Metric]:
    """What is in /metrics, by name."""
    text = client.get("/metrics").text
    return {family.name: family for family in text_string_to_metric_families(text)}


def expressions() -> list[str]:
    """All queries of the dashboard."""
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_names_keep_to_prometheus_rules(client: TestClient) -> None:
    """https://prometheus.io/docs/practices/naming/"""
    for name, family in families(client).items():
        assert re.fullmatch(r"llama_medusa(_[a-z]+)+", name)
        assert family.documentation
        assert not re.search(r"_(ms|milliseconds|minutes|count|sum|bucket|total)$", name)
        for sample in family.samples:
            if family.type == "counter":
                assert sample.name in (f"{name}_total", f"{name}_created")


def test_drafts_are_counted_by_who_guessed_them(client: TestClient) -> None:
    found = families(client)
    for name, expected in {
        "proposed": {"heads": 2.0, "grammar": 1.0},
        "accepted": {"heads": 1.0, "grammar": 1.0},
    }.items():
        samples = found[f"llama_medusa_draft_tokens_{name}"].samples
        counts = {s.labels["source"]: s.value for s in samples if s.name.endswith("_total")}
        assert counts == expected


def test_the_dashboard_asks_for_what_there_is(client: TestClient) -> None:
    samples = [sample for family in families(client).values() for sample in family.samples]
    names = {sample.name for sample in samples}
    for expression in expressions():
        asked = set(re.findall(r"llama_medusa_\w+", expression))
        assert asked
        assert asked <= names, expression
        for labels in re.findall(r"by \((\w+)\)", expression):
            assert all(any(labels in s.labels for s in samples if s.name == name) for name in asked)


def test_promtool_finds_nothing_wrong(client: TestClient, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool (Debian: apt-get install prometheus)")
    text = client.get("/metrics").content
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True)
    assert (checked.returncode, checked.stderr) == (0, b""), checked
    rules = [
        {"record": f"query:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(expressions())
    ]
    path = tmp_path / "rules.json"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = subprocess.run([promtool, "check", "rules", path], capture_output=True)
    assert checked.returncode == 0, checked
