from collections.abc import Iterator

import pytest

from medusa.sampling import passes


@pytest.fixture(params=["compiled", "numpy"], scope="module", autouse=True)
def passes_of(request: pytest.FixtureRequest) -> Iterator[str]:
    """Everything here is tried with the compiled passes and with NumPy's."""
    kind: str = request.param
    if kind == "compiled" and passes.compiled is None:
        pytest.skip("the passes are not compiled")
    with pytest.MonkeyPatch.context() as patch:
        if kind == "numpy":
            patch.setattr(passes, "compiled", None)
        yield kind
