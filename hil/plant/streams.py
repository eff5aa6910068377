"""Seeded random numbers inside compiled code: one stream (splitmix64) for each transmitter and one for the jobs."""

from __future__ import annotations

import hashlib
import math

import numpy as np

from hil.plant.kernel import Words, kernel

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31, _11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


def seed_of(seed: int, name: str) -> int:
    """Return 64 bits that follow from a seed and a name, alike in every process."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "big")


@kernel
def uniform(streams: Words, s: int) -> float:
    """Return the stream's next number, at least 0 and below 1."""
    streams[s] += _STEP
    word = streams[s]
    word = (word ^ (word >> _30)) * _FIRST
    word = (word ^ (word >> _27)) * _SECOND
    return float((word ^ (word >> _31)) >> _11) * (1.0 / 9007199254740992.0)


@kernel
def gauss(streams: Words, s: int) -> float:
    """Return the stream's next number from the normal distribution (Box and Muller)."""
    radius = math.sqrt(-2.0 * math.log(1.0 - uniform(streams, s)))
    return radius * math.cos(2.0 * math.pi * uniform(streams, s))
