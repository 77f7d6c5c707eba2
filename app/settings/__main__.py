"""`python -m app.settings` brings the README's table of options up to date."""

from pathlib import Path

from app.settings import ServerSettings
from app.settings.table import options_table, with_table

README = Path(__file__).parents[2] / "README.md"

README.write_text(with_table(README.read_text("utf-8"), options_table(ServerSettings)), "utf-8")
