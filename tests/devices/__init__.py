"""Models computed by devices: this machine's GPUs, and workers on it, which stand for any kind.

ggml ends the process whose worker goes away, and never forgets a worker: what uses one runs in a
process of its own.
"""
