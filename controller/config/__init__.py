"""TOML files -> one validated, frozen plan. Every mistake is reported at once, with its place and the remedy."""
