"""The reference pod and pictures of it, as the tests of the northbound room have them."""

from __future__ import annotations

from tests.northbound.conftest import picture, plan

__all__ = ["picture", "plan"]
