"""Choosing the next token from one row of logits."""
