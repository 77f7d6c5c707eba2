"""Each option is declared once; the command line and the README say what the declaration says."""

import inspect
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import ValidationError
from typer.testing import CliRunner, Result

import app.settings
from app.cli.from_settings import command
from app.door.config import DoorConfig
from app.door.limits import RequestLimits
from app.settings import (
    GenerateSettings,
    ModelSettings,
    ServerSettings,
    Settings,
    TrainSettings,
)
from app.settings.option import options_of
from app.settings.table import BEGIN, END, README, TABLES, options_table, with_table
from medusa.engine.config import EngineConfig
from medusa.llama.params import Placement, SplitMode
from medusa.sampling.params import Dry, SamplingParams, Stage
from medusa.training.config import FitConfig

ALL = [getattr(app.settings, name) for name in app.settings.__all__]


def parse(*arguments: str, **environment: str) -> tuple[ServerSettings | None, Result]:
    """What `serve` would run with, and what it printed."""
    given: list[ServerSettings] = []

    def run(settings: ServerSettings) -> None:
        given.append(settings)

    cli = typer.Typer()
    cli.command()(command(run))
    variables = {f"LLAMA_MEDUSA_{name}": value for name, value in environment.items()}
    result = CliRunner().invoke(cli, arguments, env={"COLUMNS": "200", **variables})
    return (given[0] if given else None), result


def chosen(*arguments: str, **environment: str) -> ServerSettings:
    settings, result = parse(*arguments, **environment)
    assert settings is not None, result.output
    return settings


@pytest.mark.parametrize(
    ("typed", "size"),
    [("0", 0), ("500MB", 500_000_000), ("1.5GiB", 3 << 29), ("2G", 2_000_000_000)],
)
def test_sizes_are_typed_as_people_write_them(typed: str, size: int) -> None:
    settings = chosen("--prompt-cache-ram", typed, PROMPT_CACHE_DISK=typed)
    assert settings.engine_config().prompt_cache_ram == size
    assert settings.engine_config().prompt_cache_disk == size


@pytest.mark.parametrize("typed", ["much", "-1", "4 bananas"])
def test_what_is_no_size_is_refused(typed: str) -> None:
    _, result = parse("--prompt-cache-ram", typed)
    assert result.exit_code == 2
    assert "--prompt-cache-ram" in result.output


def test_a_folder_for_prompts_needs_ram() -> None:
    _, result = parse("--prompt-cache-ram", "0", "--prompt-cache-dir", "/tmp/prompts")
    assert result.exit_code == 2
    assert "--prompt-cache-dir needs --prompt-cache-ram" in result.output


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.name)
def test_documents_have_the_tables_of_the_settings(path: Path) -> None:
    text = path.read_text("utf-8")
    assert with_table(text, options_table(TABLES[path])) == text, "run: make docs"


def test_a_text_without_a_place_for_the_table_is_refused() -> None:
    assert with_table(f"a {BEGIN} old {END} b", "new") == f"a {BEGIN}\nnew\n{END} b"
    with pytest.raises(ValueError, match="no place"):
        with_table(f"a {END} {BEGIN}", "new")


def test_nothing_given_is_what_the_engine_does_by_itself() -> None:
    assert ServerSettings().engine_config() == EngineConfig()
    assert ModelSettings().engine_config() == EngineConfig(n_slots=1, prompt_cache_ram=0)
    assert ServerSettings().door_config == replace(DoorConfig(), hosts=())
    assert chosen() == ServerSettings()
    assert TrainSettings(prompts=README, out=Path("heads.gguf")).fit_config == FitConfig()


def test_what_is_given_reaches_the_engine() -> None:
    sizes = ("-np", "3", "-c", "999", "-t", "2", "--max-queue", "5", "--max-stall", "40")
    guesses = ("--no-lookup", "--draft-nodes", "7", "--cache-type", "q8_0", "--no-swa-full")
    config = chosen(*sizes, *guesses).engine_config()
    assert (config.n_slots, config.n_ctx, config.n_threads) == (3, 999, 2)
    assert (config.lookup, config.draft_nodes, config.cache_type) == (False, 7, "q8_0")
    assert (config.max_queue, config.max_stall, config.swa_full) == (5, 0.04, False)


def test_what_is_given_reaches_the_door() -> None:
    sizes = ("--max-body", "0.5", "--stream-buffer", "7", "--max-values", "200")
    config = chosen(*sizes, "--open-docs", "--keep-alive", "9").door_config
    assert (config.max_body, config.stream_buffer) == (2**19, 7 * 2**10)
    assert config.limits == RequestLimits(max_values=200)
    assert (config.open_docs, config.open_metrics, config.keep_alive) == (True, False, 9)


@pytest.mark.parametrize("settings", ALL)
def test_options_are_declared_once(settings: type[Settings]) -> None:
    options = options_of(settings)
    assert {option.name for option in options} == set(settings.model_fields)
    flags = Counter(
        flag
        for option in options
        for flag in (option.flag, option.negation, option.opt.short)
        if flag
    )
    assert max(flags.values(), default=1) == 1, flags


@pytest.mark.parametrize("settings", ALL)
def test_no_option_is_hidden_from_the_command_line(settings: type[Settings]) -> None:
    def run(settings: Settings) -> None: ...

    run.__annotations__["settings"] = settings
    assert set(inspect.signature(command(run)).parameters) == set(settings.model_fields)


def test_every_option_of_a_server_has_a_variable_of_its_name() -> None:
    others = {"models": "LLAMA_MEDUSA_MODEL", "hf_token": "HF_TOKEN"}
    for option in options_of(ServerSettings):
        usual = f"LLAMA_MEDUSA_{option.name.upper()}"
        assert option.variable == others.get(option.name, usual)


def test_variables_stand_for_options_that_are_not_given() -> None:
    variables = {"MODEL": "m", "PORT": "9000", "LOOKUP": "0", "GPU_LAYERS": "all", "VERBOSE": "1"}
    settings = chosen(**variables)
    assert (settings.models, settings.port, settings.lookup) == (["m"], 9000, False)
    assert (settings.gpu_layers, settings.verbose) == (-1, True)
    assert chosen("n", "--port", "9001", **variables).port == 9001
    assert chosen("n", "o", **variables).models == ["n", "o"]
    assert chosen(MODEL="m n").models == ["m", "n"]


def test_empty_variables_are_no_values() -> None:
    variables = [str(option.variable) for option in options_of(ServerSettings)]
    variables = [name.removeprefix("LLAMA_MEDUSA_") for name in variables if name != "HF_TOKEN"]
    variables.remove("API_KEY")
    assert chosen(**dict.fromkeys(variables, "")) == ServerSettings()


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (("--api-key", ""), {}),
        (("--api-key", " "), {}),
        ((), {"API_KEY": ""}),
        ((), {"API_KEY": " "}),
    ],
)
def test_an_empty_key_does_not_open_the_server(
    arguments: tuple[str, ...], environment: dict[str, str]
) -> None:
    settings, result = parse(*arguments, **environment)
    assert settings is None
    assert result.exit_code == 2
    assert "'--api-key' (env var: 'LLAMA_MEDUSA_API_KEY'): the key is empty" in result.output


def test_a_key_is_not_shown() -> None:
    settings = chosen("--api-key", "secret", API_KEY="")
    assert settings.api_key == "secret"
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "layers"), [("auto", None), ("all", -1), ("20", 20), ("0", 0), ("-1", -1)]
)
def test_layers_on_the_gpu(text: str, layers: int | None) -> None:
    assert chosen("-ngl", text).gpu_layers == layers
    assert ModelSettings(gpu_layers=layers).gpu_layers == layers


def test_where_layers_go() -> None:
    assert chosen().placement == Placement()
    assert chosen("-dev", "none", "-ngl", "0").placement == Placement(0, ())
    assert chosen(
        "--device", "CUDA1, RPC0", "-sm", "none", "-mg", "1", "-ts", "3,1.5"
    ).placement == Placement(None, ("CUDA1", "RPC0"), SplitMode.NONE, (3, 1.5), 1)
    assert chosen().workers == ()
    assert chosen("--rpc", "10.0.0.2:50052,box:1").workers == ("10.0.0.2:50052", "box:1")


@pytest.mark.parametrize(
    "wrong",
    [{"port": 0}, {"port": 65536}, {"draft_nodes": 65}, {"parallel": 257}, {"api_key": ""},
     {"host": ""}, {"ssl_keyfile": README}, {"tree": "/nowhere"}, {"max_stall": 0.5}, {"prot": 80}],
    ids=str,
)  # fmt: skip
def test_bounds_hold_without_the_command_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ServerSettings(**wrong)


def test_a_prompt_may_have_a_model_before_it() -> None:
    alone, both = GenerateSettings(words=["Hi"]), GenerateSettings(words=["m.gguf", "Hi"])
    assert ([alone.model], alone.prompt) == (ServerSettings().models, "Hi")
    assert (both.model, both.prompt) == ("m.gguf", "Hi")


def test_without_options_sampling_is_as_the_engine_has_it() -> None:
    assert ServerSettings().sampling == SamplingParams()


def test_sampling_is_set_by_llama_servers_options() -> None:
    settings = ServerSettings(
        temp=0.8, top_k=40, top_p=0.95, min_p=0.05, repeat_penalty=1.1, dry_multiplier=0.8,
        mirostat=2, mirostat_ent=4.0, mirostat_lr=0.2, seed=-1, samplers="top_k;temperature",
    )  # fmt: skip
    assert settings.sampling == SamplingParams(
        temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, repetition_penalty=1.1,
        penalty_last_n=64, dry=Dry(0.8), mirostat=2, mirostat_tau=4.0, mirostat_eta=0.2,
        stages=(Stage.TOP_K, Stage.TEMPERATURE),
    )  # fmt: skip
    assert ServerSettings(repeat_penalty=1.1, repeat_last_n=-1).sampling.penalty_last_n == -1


def test_samplers_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValidationError, match="there is no sampler 'infill'"):
        ServerSettings(samplers="top_k;infill")
