"""Scenarios: one TOML file each, checked before anything runs."""
