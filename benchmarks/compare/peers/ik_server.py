"""Chat completions by ik_llama.cpp: streamed, greedy, one at a time. Runs in its environment."""

import argparse
import codecs
import ctypes
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import gguf
import jinja2
import numpy as np
from ik_llama_cpp import IkLlama, _ctypes_api
from ik_llama_cpp._internals import make_batch_range, make_batch_single

_NAME = "model"


class Generator:
    """A model with one sequence, whose prompt is computed anew for each request."""

    def __init__(self, path: str, n_ctx: int, n_threads: int, flash_attention: bool) -> None:
        self._llama = IkLlama(path, n_ctx=n_ctx, n_threads=n_threads, flash_attn=flash_attention)
        self._context, self._model = self._llama._context, self._llama._model
        field = gguf.GGUFReader(path).get_field("tokenizer.chat_template")
        self._template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(
            field.contents() if field else ""
        )
        self._piece = ctypes.create_string_buffer(256)
        self.free = threading.Lock()

    def generate(self, messages: list[dict[str, str]], max_tokens: int) -> Iterator[bytes | str]:
        """The bytes of each token, then why it ended."""
        text = self._template.render(messages=messages, add_generation_prompt=True)
        prompt = self._llama.tokenize(text, add_bos=False, special=True)
        self._context.kv_cache_clear()
        for start in range(0, len(prompt), self._context._n_ubatch):
            piece = prompt[start : start + self._context._n_ubatch]
            is_last = start + len(piece) == len(prompt)
            self._decode(make_batch_range(piece, pos_start=start, logits_last=is_last))
        for position in range(len(prompt), len(prompt) + max_tokens):
            logits = np.ctypeslib.as_array(self._context.get_logits(-1), (self._model.n_vocab,))
            token = int(logits.argmax())
            if _ctypes_api.llama_token_is_eog(self._model.model, token):
                yield "stop"
                return
            yield self._bytes(token)
            self._decode(make_batch_single(token, position))
        yield "length"

    def _decode(self, batch: Any) -> None:
        status = self._context.decode(batch)
        _ctypes_api.llama_batch_free(batch)
        if status:
            raise RuntimeError(f"llama_decode: {status}")

    def _bytes(self, token: int) -> bytes:
        size = _ctypes_api.llama_token_to_piece(
            self._model.model, token, self._piece, len(self._piece), 0, False
        )
        return self._piece.raw[:size]


class Handler(BaseHTTPRequestHandler):
    """The two paths that a load generator needs."""

    generator: Generator

    def do_GET(self) -> None:
        """List the one model."""
        body = json.dumps({"data": [{"id": _NAME, "object": "model"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """Answer a chat completion as a stream."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if {"response_format", "tools"} & body.keys():
            self.send_error(400, "only plain text")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        count = 0
        with self.generator.free:
            for piece in self.generator.generate(body["messages"], body["max_tokens"]):
                if isinstance(piece, bytes):
                    count += 1
                    self._send({"content": decoder.decode(piece)}, None)
                else:
                    self._send({"content": decoder.decode(b"", True)}, piece, count)

    def _send(self, delta: dict[str, str], reason: str | None, count: int | None = None) -> None:
        chunk: dict[str, Any] = {
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        }
        if count is not None:
            chunk["usage"] = {"completion_tokens": count}
        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ctx-size", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--flash-attention", action=argparse.BooleanOptionalAction, required=True)
    chosen = parser.parse_args()
    Handler.generator = Generator(
        chosen.model, chosen.ctx_size, chosen.threads, chosen.flash_attention
    )
    ThreadingHTTPServer(("127.0.0.1", chosen.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
