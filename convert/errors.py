"""Errors of conversion; each message tells its reader what is wrong and, if known, what to do."""

from medusa.errors import MedusaError


class ConversionError(MedusaError):
    """Something could not be converted."""


class CheckpointError(ConversionError):
    """A file of the checkpoint is missing, damaged, or contradicts another one."""


class UnsupportedModelError(ConversionError):
    """The checkpoint is sound, but of a kind that this converter does not know."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} is not supported; llama.cpp's own converter, convert_hf_to_gguf.py, knows "
            "many more models, and the GGUF it writes can be served as it is"
        )


class DiskSpaceError(ConversionError):
    """The disk has no room for what is about to be downloaded or written."""


class DownloadError(ConversionError):
    """A repository, or a file of it, cannot be had from the Hub."""
