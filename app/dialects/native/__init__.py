"""This server's own endpoints, with OpenAI's errors."""
