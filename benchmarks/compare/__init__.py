"""Whole servers over HTTP, ours beside what people would use instead."""
