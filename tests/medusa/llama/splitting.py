"""Splits a GGUF as llama-gguf-split does: the metadata in the first part, tensors in all."""

from pathlib import Path

import gguf


def split(source: Path, folder: Path, tensors_a_part: int) -> list[Path]:
    """Write the parts `STEM-0000N-of-0000M.gguf` of `source` into a folder."""
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(
        folder / source.name, architecture, split_max_tensors=tensors_a_part, use_temp_file=False
    )
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            kind, *inner = field.types
            writer.add_key_value(name, field.contents(), kind, inner[-1] if inner else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob(f"{source.stem}-*-of-*.gguf"))
