"""Models computed by workers on this machine, which stand for devices of any kind.

ggml ends the process whose worker goes away, and never forgets a worker: what uses one runs in a
process of its own.
"""
