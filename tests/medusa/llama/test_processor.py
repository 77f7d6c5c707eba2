import pytest

from medusa.llama import processor

METAL = (
    "processor : 0\nmodel name : Fast 9000\nflags : fpu avx2 amx_tile amx_int8\n\nprocessor : 1\n"
)


@pytest.mark.parametrize(
    ("text", "doubtful"),
    [
        (METAL, False),
        (METAL.replace("avx2", "avx2 hypervisor"), True),
        (METAL.replace("amx_tile", "hypervisor"), False),
        ("", False),
    ],
)
def test_tiles_are_trusted_where_no_virtual_machine_may_lose_them(
    text: str, doubtful: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "Path", lambda _: FakeFile(text))
    processor._cpuinfo.cache_clear()
    assert processor.tiles_are_doubtful() is doubtful
    assert processor.model_name() == ("Fast 9000" if text else "unknown")
    processor._cpuinfo.cache_clear()


class FakeFile:
    def __init__(self, text: str) -> None:
        self._text = text

    def read_text(self) -> str:
        if not self._text:
            raise OSError("no such file")
        return self._text
