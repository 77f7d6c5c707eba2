"""Which files of a repository are a model, and which of several is taken."""

import pytest

from convert.errors import ConversionError
from convert.hub.ggufs import Gguf, HubName, choose, ggufs, heads_for


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("org/repo", HubName("org/repo", None)),
        ("org/repo-GGUF:q4_k_m", HubName("org/repo-GGUF", "q4_k_m")),
        ("org/Repo.v1:UD-Q4_K_XL", HubName("org/Repo.v1", "UD-Q4_K_XL")),
        ("org/model.gguf", None),
        ("./repo", None),
        ("/org/repo", None),
        ("~/repo", None),
        ("a/b/c", None),
        ("name", None),
        ("org/repo:", None),
        ("https://x/y", None),
    ],
)
def test_names_of_the_hub(text: str, expected: HubName | None) -> None:
    assert HubName.parse(text) == expected


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"),
        ("model-q4_k_m.gguf", "Q4_K_M"),
        ("gemma-3-4b-it-qat-q4_0.gguf", "Q4_0"),
        ("Qwen3-8B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("Qwen3-8B-F16-Q8_0.gguf", "Q8_0"),
        ("Llama-IQ4_XS-imat.gguf", "IQ4_XS"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("model-TQ1_0.gguf", "TQ1_0"),
        ("model.BF16.gguf", "BF16"),
        ("Q6_K/model-00001-of-00001.gguf", "Q6_K"),
        ("Qwen3-8B.gguf", None),
        ("q8b/model.gguf", None),
    ],
)
def test_quantisations_are_read_from_names(name: str, tag: str | None) -> None:
    (found,) = ggufs([name])
    assert (found.tag, found.parts) == (tag, (name,))


def test_what_is_no_whole_model_is_passed_over() -> None:
    names = [
        "README.md", "config.json", "model-Q4_0.gguf", "mmproj-model-f16.gguf", "model-mmproj.gguf",
        "model-Q4_0.medusa.gguf", "mtp-model-Q4_0.gguf", "eagle3-model.gguf", "model.imatrix.gguf",
        "Q8_0/model-Q8_0-00002-of-00002.gguf", "Q8_0/model-Q8_0-00001-of-00002.gguf",
        "big-Q6_K-00001-of-00003.gguf", "big-Q6_K-00003-of-00003.gguf",
    ]  # fmt: skip
    parts = ("Q8_0/model-Q8_0-00001-of-00002.gguf", "Q8_0/model-Q8_0-00002-of-00002.gguf")
    assert ggufs(names) == [Gguf(parts, "Q8_0"), Gguf(("model-Q4_0.gguf",), "Q4_0")]
    assert ggufs(names)[0].stem == "model-Q8_0"


PREFERRED = [
    "Q4_K_M",
    "IQ4_XS",
    "Q4_0",
    "Q4_K_S",
    "Q5_K_M",
    "Q6_K",
    "Q8_0",
    "Q3_K_M",
    "Q2_K",
    "F16",
]


def test_without_a_tag_the_nearest_to_q4_k_m_is_taken() -> None:
    names = [f"m-{tag}.gguf" for tag in sorted(PREFERRED)] + ["m.gguf"]
    for expected in [*PREFERRED, "m"]:
        chosen = choose(ggufs(names), None)
        assert chosen.label == expected
        names.remove(chosen.parts[0])


def test_a_tag_is_matched_in_whatever_case_or_else_what_there_is_is_told() -> None:
    found = ggufs(["a-q4_0.gguf", "a-Q8_0.gguf", "special.gguf"])
    assert choose(found, "q8_0").parts == ("a-Q8_0.gguf",)
    assert choose(found, "Q4_0").parts == ("a-q4_0.gguf",)
    assert choose(found, "special").parts == ("special.gguf",)
    with pytest.raises(ConversionError, match="no GGUF Q6_K; there are: Q8_0, Q4_0, special"):
        choose(found, "Q6_K")
    both = ggufs(["a-Q4_0.gguf", "b-Q4_0.gguf"])
    for tag in ("q4_0", None):
        with pytest.raises(ConversionError, match="name one of them: a-Q4_0, b-Q4_0"):
            choose(both, tag)
    assert choose(both, "b-Q4_0").parts == ("b-Q4_0.gguf",)


def test_heads_are_those_of_the_file_or_the_only_ones() -> None:
    (model,) = ggufs(["m-Q4_0.gguf"])
    assert heads_for(model, ["m-Q4_0.gguf"]) is None
    assert heads_for(model, ["m.medusa.gguf"]) == "m.medusa.gguf"
    assert heads_for(model, ["m.medusa.gguf", "m-Q4_0.medusa.gguf"]) == "m-Q4_0.medusa.gguf"
    assert heads_for(model, ["m-Q8_0.medusa.gguf", "m-F16.medusa.gguf"]) is None
