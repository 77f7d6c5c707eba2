"""`python -m app.settings` brings the documentation's tables of options up to date."""

from app.settings.table import TABLES, options_table, with_table

for path, options in TABLES.items():
    path.write_text(with_table(path.read_text("utf-8"), options_table(options)), "utf-8")
