"""Servers that are compared, an adapter each."""
