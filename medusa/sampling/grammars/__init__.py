"""Constraints from grammars: JSON schemas, regular expressions, choices, Lark and GBNF."""
