"""Randomness from keys: the same key gives the same numbers, on every machine and in every order.

Knows keys and hashes. Knows nothing about what the numbers decide.
"""

from __future__ import annotations

import hashlib

import numpy as np


def _stream(key: Key, size: int) -> bytes:
    """The first `size` bytes of the key's stream (SHAKE-128, so independent of platform and library)."""
    return hashlib.shake_128("/".join(map(str, key)).encode()).digest(size)


def uniforms(key: Key, count: int) -> np.ndarray:
    """`count` float64 numbers in [0, 1); shape (count,). A longer request starts with the same numbers."""
    words = np.frombuffer(_stream((*key, "uniform"), 8 * count), dtype="<u8")
    return (words >> np.uint64(11)) * 2.0**-53


def generator(key: Key) -> np.random.Generator:
    """A numpy generator that belongs to the key."""
    return np.random.Generator(np.random.PCG64(int.from_bytes(_stream((*key, "generator"), 16))))


def seed_from(key: Key) -> int:
    """An integer in [0, 2**53) that belongs to the key (exact in JSON, fit for `reset(seed=)`)."""
    return int.from_bytes(_stream((*key, "seed"), 8)) >> 11


Key = tuple[int | str, ...]
"""Names a source of randomness: (seed, update, group, member), or (eval seed, "eval", group, member)."""
