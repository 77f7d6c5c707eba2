"""From Hugging Face checkpoints to the files that the engine serves.

model.py turns a Llama or Mistral checkpoint into a GGUF, heads.py the official Medusa heads into a
heads file, hub.py brings either from the Hub. Everything is read and written tensor by tensor, so
memory is needed for the largest tensor, not for the model.
"""
