"""Continuous batching with Medusa speculation on llama.cpp: the engine, free of HTTP.

`medusa.engine.Engine` is the entry point; docs/structure.md is the map.
"""
