"""The Llama architecture: its config.json, and its tensors under their GGUF names."""
