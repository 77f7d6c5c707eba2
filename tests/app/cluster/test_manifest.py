"""The manifest for KubeRay names what there is. No Kubernetes is asked."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import ClusterSettings
from app.settings.option import options_of

ROOT = Path(__file__).parents[3]
OPERATIONS = ROOT / "docs" / "operations"


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((OPERATIONS / "kuberay.yaml").read_text("utf-8"))
    return loaded


@pytest.fixture(scope="module")
def serve_config(manifest: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    return config


def containers(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = manifest["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [container for group in groups for container in group["template"]["spec"]["containers"]]


def test_it_is_a_service_of_kuberay(manifest: dict[str, Any]) -> None:
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayService")
    assert set(manifest["spec"]) == {"serveConfigV2", "rayClusterConfig"}
    cluster = manifest["spec"]["rayClusterConfig"]
    assert set(cluster) == {
        "rayVersion", "enableInTreeAutoscaling", "headGroupSpec", "workerGroupSpecs"
    }  # fmt: skip
    pins = (ROOT / "requirements" / "cluster.txt").read_text("utf-8").splitlines()
    image = (OPERATIONS / "Dockerfile.cluster").read_text("utf-8")
    assert f"ray=={cluster['rayVersion']}" in pins
    assert f"FROM rayproject/ray:{cluster['rayVersion']}-" in image


def test_serve_accepts_its_configuration(serve_config: dict[str, Any]) -> None:
    """By Ray's own schema, in a process of its own; and what it imports is the builder."""
    (application,) = serve_config["applications"]
    module, _, name = application["import_path"].partition(":")
    code = (
        "import sys, yaml; from ray.serve.schema import ServeDeploySchema;"
        "ServeDeploySchema.model_validate(yaml.safe_load(sys.stdin.read()));"
        f"from {module} import {name}; from ray.serve import Application;"
        f"assert isinstance({name}({{'threads': 1}}), Application)"
    )
    config = yaml.safe_dump(serve_config)
    done = subprocess.run(
        [sys.executable, "-c", code], input=config, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_its_options_are_options(serve_config: dict[str, Any]) -> None:
    arguments = dict(serve_config["applications"][0]["args"])
    known = {option.name for option in options_of(ClusterSettings)} | {"model"}
    assert set(arguments) <= known
    del arguments["api_key_file"]  # is not on this machine
    ClusterSettings(models=[arguments.pop("model")], **arguments)


def test_replicas_fit_into_their_pods(
    manifest: dict[str, Any], serve_config: dict[str, Any]
) -> None:
    arguments = serve_config["applications"][0]["args"]
    (workers,) = manifest["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    limits = containers(manifest)[1]["resources"]["limits"]
    assert int(limits["cpu"]) >= arguments["threads"]
    assert workers["minReplicas"] == arguments["replicas"]
    assert workers["maxReplicas"] == arguments["max_replicas"]


def test_keys_come_from_a_secret(manifest: dict[str, Any], serve_config: dict[str, Any]) -> None:
    file = Path(serve_config["applications"][0]["args"]["api_key_file"])
    for container in containers(manifest):
        (mount,) = container["volumeMounts"]
        assert Path(mount["mountPath"]) == file.parent
        assert mount["readOnly"]
