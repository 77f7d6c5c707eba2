"""From Hugging Face checkpoints to the files that the engine serves.

model.py turns a Llama or Mistral checkpoint into a GGUF, heads.py the official Medusa heads into a
heads file; hub/ brings either from the Hub, files/ reads weights, llama/ and tokenizers/ know what
is in them. Everything is read and written tensor by tensor, so memory is needed for the largest
tensor, not for the model.
"""
