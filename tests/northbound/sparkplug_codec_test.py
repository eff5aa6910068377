"""Sparkplug payloads: what is written is read, and bytes of any kind are read or refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.northbound.sparkplug_codec import (
    BOOLEAN,
    DOUBLE,
    INT16,
    INT32,
    INT64,
    STRING,
    as_number,
    decode,
    metric,
    name_field,
    payload,
)  # fmt: skip


@given(st.binary(max_size=300))
def test_any_bytes_are_a_payload_or_a_value_error(data):
    try:
        decode(data)
    except ValueError:
        return


@given(st.lists(st.tuples(
    st.text(max_size=20),
    st.one_of(
        st.tuples(st.just(DOUBLE), st.floats(allow_nan=False)),
        st.tuples(st.just(BOOLEAN), st.booleans()),
        st.tuples(st.just(INT64), st.integers(-(2**63), 2**63 - 1)),
        st.tuples(st.just(INT32), st.integers(-(2**31), 2**31 - 1)),
        st.tuples(st.just(STRING), st.text(max_size=30)),
    ),
    st.integers(0, 2**63), st.sampled_from((0, 192, 500)),
), max_size=20), st.integers(0, 255))  # fmt: skip
def test_what_is_written_is_read(items, seq):
    encoded = [metric(name_field(n), k, v, at, q, birth=True) for n, (k, v), at, q in items]
    found = decode(payload(5, encoded, seq))
    assert (found.timestamp, found.seq, len(found.metrics)) == (5, seq, len(items))
    for item, (name, (kind, value), at, quality) in zip(found.metrics, items, strict=True):
        assert (item.name, item.datatype, item.timestamp, item.quality) == (name, kind, at, quality)
        shown = as_number(item.value, kind) if kind in (INT32, INT64) else item.value
        assert shown == (float(value) if kind in (INT32, INT64) else value)


def test_signs():
    """-7 as Int16 stands on the wire as 4294967289."""
    assert as_number(4294967289, INT16) == -7.0
    assert as_number(2**64 - 1, INT64) == -1.0
    assert as_number("7", INT64) is None
