"""Vocabularies and chat templates, read from SentencePiece or tokenizer.json."""
