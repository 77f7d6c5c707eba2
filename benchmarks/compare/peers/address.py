"""Any server with OpenAI's API that runs already: vLLM, TensorRT-LLM, TGI, another machine's."""

from benchmarks.compare.peers.peer import Peer


def at_address(text: str) -> Peer:
    """One that is given as NAME=URL, or as a URL alone.

    Raises:
        ValueError: there is no http or https URL in it.
    """
    name, _, url = text.rpartition("=") if "=" in text.partition("://")[0] else ("", "", text)
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{text!r} is not NAME=URL")
    url = url.rstrip("/").removesuffix("/v1")
    return Peer(name or url, "not told", url=url)
