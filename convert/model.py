"""A Hugging Face checkpoint of a Llama or Mistral -> a GGUF that llama.cpp runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import gguf

from convert.files.checkpoint import read_checkpoint
from convert.files.disk import require_disk
from convert.files.tensors import Dtype
from convert.llama.config import LlamaConfig, read_llama_config
from convert.llama.tensors import plan_tensors
from convert.outtypes import OutType
from convert.tokenizers.chat_templates import default_template
from convert.tokenizers.tokenizer import read_vocabulary, write_tokenizer
from convert.tokenizers.vocabulary import Vocabulary
from medusa.files import whole_file
from medusa.llama.gguf_files import PlannedTensor, Progress, write_tensors
from medusa.llama.quantising import quantize


@dataclass(frozen=True)
class ModelConversion:
    """What to convert, to what.

    `chat_template` is Jinja source for a checkpoint that carries none; None takes the template
    known for `name`, if there is one.
    """

    folder: Path
    out: Path
    outtype: OutType
    name: str
    chat_template: str | None = None


def convert_model(job: ModelConversion, on_progress: Progress = lambda done, total: None) -> None:
    """Write the GGUF of a checkpoint.

    Quantised types go through an unquantised file beside the output, in the checkpoint's own
    number format, which is removed again.

    Raises:
        CheckpointError: a file is missing or damaged.
        UnsupportedModelError: the model is none of the Llama family.
        DiskSpaceError: there is no room for the output.
        ModelLoadError: llama.cpp could not quantise.
    """
    config = read_llama_config(job.folder)
    vocabulary = read_vocabulary(job.folder, config.n_vocab)
    dtype = Dtype(job.outtype.name) if job.outtype.is_float else None
    tensors = plan_tensors(read_checkpoint(job.folder), config, dtype)
    require_disk(job.out.parent, _bytes_needed(tensors, job.outtype), f"writing {job.out.name}")
    if job.outtype.is_float:
        with whole_file(job.out) as path:
            _write(path, job, config, vocabulary, tensors, on_progress)
        return
    unquantised = job.out.with_name(job.out.name + ".unquantised")
    try:
        with whole_file(unquantised) as path:
            _write(path, job, config, vocabulary, tensors, on_progress)
        quantise_file(unquantised, job.out, job.outtype)
    finally:
        unquantised.unlink(missing_ok=True)


def quantise_file(source: Path, out: Path, outtype: OutType) -> None:
    """Write a GGUF of f16, bf16 or f32 in a quantised type.

    Raises:
        ModelLoadError: llama.cpp could not read or write.
    """
    with whole_file(out) as path:
        quantize(source, path, int(outtype.file_type))


def _bytes_needed(tensors: Sequence[PlannedTensor], outtype: OutType) -> int:
    written = sum(tensor.n_bytes for tensor in tensors)
    if outtype.is_float:
        return written
    weights = sum(prod(tensor.shape) for tensor in tensors)
    return written + int(outtype.bytes_per_weight * weights)


def _write(
    path: Path,
    job: ModelConversion,
    config: LlamaConfig,
    vocabulary: Vocabulary,
    tensors: Sequence[PlannedTensor],
    on_progress: Progress,
) -> None:
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.LLAMA])
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(job.name)
    writer.add_file_type(_file_type(tensors))
    _write_config(writer, config)
    template = job.chat_template or default_template(job.name)
    write_tokenizer(writer, job.folder, vocabulary, template)
    write_tensors(writer, tensors, on_progress)


def _file_type(tensors: Sequence[PlannedTensor]) -> gguf.LlamaFileType:
    """The type of the matrices, as llama.cpp numbers it; of the largest, if they differ."""
    kind = max(tensors, key=lambda tensor: tensor.n_bytes).kind
    if kind is gguf.GGMLQuantizationType.F32:
        return gguf.LlamaFileType.ALL_F32
    return gguf.LlamaFileType[f"MOSTLY_{kind.name}"]


def _write_config(writer: gguf.GGUFWriter, config: LlamaConfig) -> None:
    writer.add_block_count(config.n_layers)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.n_ff)
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.n_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_vocab_size(config.n_vocab)
    writer.add_layer_norm_rms_eps(config.rms_epsilon)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    if config.rope_linear_factor is not None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope_linear_factor)
