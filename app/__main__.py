"""`python -m app` is `llama-medusa`."""

from app.cli import main

main()
