"""A heads file that is damaged anywhere is refused with one clear error when it is loaded."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from medusa.errors import ModelLoadError
from medusa.llama.gguf_files import Kind, PlannedTensor, StoredTensor, quantise, write_gguf
from medusa.speculation.calibration import BINS
from medusa.speculation.heads.header import HeadsHeader, Variant
from medusa.speculation.heads.reading import read_heads
from medusa.speculation.heads.weights import HeadWeights, layout, write_heads

N_HEADS, N_EMBD, N_VOCAB, WIDTH = 2, 32, 50, 64
HEADER = HeadsHeader(Variant.HYDRA, N_HEADS, 1, N_EMBD, N_VOCAB, "tiny", "0123", width=WIDTH)


def table(top_k: int = 6, n_heads: int = N_HEADS, bins: int = BINS) -> np.ndarray:
    return np.ones((2, n_heads, top_k, bins), np.float32)


def stored(kind: Kind, values: np.ndarray) -> StoredTensor:
    return StoredTensor(kind, quantise(kind, values.astype(np.float32)))


@dataclass
class HeadsFile:
    """The parts of a sound file, to be spoilt."""

    metadata: dict[str, str | int] = field(
        default_factory=lambda: {
            "general.name": "Tiny",
            "medusa.variant": "hydra",
            "medusa.head_count": N_HEADS,
            "medusa.layer_count": 1,
            "medusa.feed_forward_length": WIDTH,
            "medusa.output_rank": 0,
            "medusa.embedding_length": N_EMBD,
            "medusa.vocab_size": N_VOCAB,
            "medusa.base.name": "tiny",
            "medusa.base.fingerprint": "0123",
        }
    )
    tensors: dict[str, StoredTensor] = field(
        default_factory=lambda: {
            **{
                s.name: StoredTensor(Kind.F32, np.zeros(s.shape, np.float32))
                for s in layout(HEADER)
            },
            "draft_tokens": StoredTensor(Kind.I32, np.arange(10, dtype=np.int32)),
            "calibration": StoredTensor(Kind.F32, table()),
        }
    )

    def write(self, path: Path) -> Path:
        def planned(name: str, tensor: StoredTensor) -> PlannedTensor:
            return PlannedTensor(name, tensor.shape, tensor.kind, lambda: tensor.data)

        tensors = [planned(*item) for item in self.tensors.items()]
        write_gguf(path, "medusa", self.metadata, tensors, lambda done, total: None)
        return path


def test_a_sound_file_is_read(tmp_path: Path) -> None:
    read = read_heads(HeadsFile().write(tmp_path / "heads.gguf"))
    assert read.header.n_draft == 10
    assert read.header.width == WIDTH


TENSORS: list[tuple[str, StoredTensor, str]] = [
    ("cell.0.in.bias", stored(Kind.F16, np.zeros(WIDTH, np.float32)), "F16, not one of F32"),
    (
        "cell.0.in.weight",
        StoredTensor(Kind.I32, np.zeros((WIDTH, 2 * N_EMBD), np.int32)),
        "is I32, not one of BF16, F16",
    ),
    (
        "cell.0.out.weight",
        stored(Kind.Q8_0, np.zeros((WIDTH, WIDTH), np.float32)),
        r"\(64, 64\), not \(32, 64\)",
    ),
    ("draft_tokens", StoredTensor(Kind.F32, np.zeros(3, np.float32)), "F32, not one of I32"),
    ("draft_tokens", StoredTensor(Kind.I32, np.zeros((3, 1), np.int32)), "not a list"),
    ("draft_tokens", StoredTensor(Kind.I32, np.array([3, 50], np.int32)), "beyond its vocabulary"),
    ("draft_tokens", StoredTensor(Kind.I32, np.array([-1, 5], np.int32)), "beyond its vocabulary"),
    ("draft_tokens", StoredTensor(Kind.I32, np.array([3, 4, 3], np.int32)), "token twice"),
    ("calibration", StoredTensor(Kind.F32, table(top_k=5)), r"not \(2, 2, 6 or more, 10\)"),
    ("calibration", StoredTensor(Kind.F32, table(n_heads=1)), r"not \(2, 2, 6 or more, 10\)"),
    ("calibration", StoredTensor(Kind.F32, table(bins=9)), r"not \(2, 2, 6 or more, 10\)"),
    ("calibration", StoredTensor(Kind.F32, table()[0]), r"not \(2, 2, 6 or more, 10\)"),
    ("calibration", stored(Kind.F16, table()), "F16, not one of F32"),
    ("calibration", StoredTensor(Kind.F32, table() * np.nan), "hits and trials"),
    ("calibration", StoredTensor(Kind.F32, -table()), "hits and trials"),
    (
        "calibration",
        StoredTensor(Kind.F32, table() * np.array([2, 1], np.float32)[:, None, None, None]),
        "hits and trials",
    ),
]


@pytest.mark.parametrize(("name", "tensor", "complaint"), TENSORS)
def test_tensors_that_do_not_fit_are_refused(
    tmp_path: Path, name: str, tensor: StoredTensor, complaint: str
) -> None:
    file = HeadsFile()
    file.tensors[name] = tensor
    with pytest.raises(ModelLoadError, match=rf"heads\.gguf.*{complaint}"):
        read_heads(file.write(tmp_path / "heads.gguf"))


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("medusa.head_count", 0, "from 1 to 64"),
        ("medusa.head_count", 4_000_000_000, "from 1 to 64"),
        ("medusa.head_count", "two", "'two', not an integer"),
        ("medusa.layer_count", 0, "from 1 to 64"),
        ("medusa.embedding_length", 0, "from 1"),
        ("medusa.embedding_length", 64, r"cell\.0\.in\.weight is \(64, 64\), not \(64, 128\)"),
        ("medusa.vocab_size", 0, "from 1"),
        ("medusa.feed_forward_length", 0, r"cell\.0\.in\.weight is \(64, 64\), not \(0, 64\)"),
        ("medusa.output_rank", 8, r"lacks the tensor output\.down\.weight"),
        ("medusa.base.name", 7, "is 7, not a text"),
        ("medusa.variant", 7, "is 7, not a text"),
    ],
)
def test_metadata_that_is_not_sane_is_refused(
    tmp_path: Path, key: str, value: str | int, complaint: str
) -> None:
    file = HeadsFile()
    file.metadata[key] = value
    with pytest.raises(ModelLoadError, match=rf"heads\.gguf.*{complaint}"):
        read_heads(file.write(tmp_path / "heads.gguf"))


def test_a_file_that_ends_too_early_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    path = HeadsFile().write(tmp_path / "heads.gguf")
    data = path.read_bytes()
    ends = [*range(0, 1500, 7), *range(1500, len(data), 997), len(data) - 1]
    assert ends[-1] > 20_000
    for end in ends:
        path.write_bytes(data[:end])
        with pytest.raises(ModelLoadError, match="heads"):
            read_heads(path)


def test_bytes_that_changed_give_one_kind_of_error(tmp_path: Path) -> None:
    path = HeadsFile().write(tmp_path / "heads.gguf")
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.integers(0, 1200, 400).tolist():
        path.write_bytes(data[:place] + bytes([rng.integers(256)]) + data[place + 1 :])
        try:
            read_heads(path)
        except ModelLoadError:
            refused += 1
    assert refused > 200


@pytest.mark.parametrize("kind", [Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0])
@pytest.mark.parametrize("ranks", [6, 8])
def test_what_is_written_is_read(tmp_path: Path, kind: Kind, ranks: int) -> None:
    header = replace(HEADER, calibration=table(ranks))
    values = {spec.name: np.ones(spec.shape, np.float32) for spec in layout(header)}
    write_heads(tmp_path / "heads.gguf", HeadWeights.of(header, values), kind=kind)
    read = read_heads(tmp_path / "heads.gguf")
    np.testing.assert_allclose(read.values("cell.0.in.weight"), 1, rtol=0.01)
    np.testing.assert_array_equal(read.header.calibration, table(ranks))
