"""Measurements of the field bus side, each against its bar: ``python -m hil.bench NAME``. See docs/performance.md."""
