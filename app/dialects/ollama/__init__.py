"""Ollama's API (https://docs.ollama.com/api), served by the same backends."""
