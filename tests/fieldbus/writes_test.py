"""The book of writes: order, age, replacement, and what became of each."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.config.plan import PointPlan
from controller.config.profile import Row
from controller.core.interlocks import Write
from controller.core.points import Kind, Point
from controller.fieldbus.writes import LIFE_S, VERIFY_S, WRITES_MAX, Fate, Order, Writes


def plan(name: str, *, access: str = "rw", mask: int = 0xFFFF) -> PointPlan:
    row = Row.model_validate({"table": "holding", "address": 1, "access": access, "range": [0, 9999], "mask": mask})
    return PointPlan(Point("pump", name, Kind.NUMBER, writable=True), row, 1.0)


PLANS = {f"pump.{item.point.name}": item for item in (plan("a"), plan("b"), plan("blind", access="w"))}
PLANS["pump.low_byte"] = plan("low_byte", mask=0x00FF)


@dataclass
class Book:
    """Writes and a clock."""

    writes: Writes = field(default_factory=lambda: Writes(PLANS))
    now: float = 100.0

    def ask(self, name: str, value: float = 5.0, *, safety: bool = True) -> bool:
        return self.writes.accept(Write(f"pump.{name}", value, safety, "test"), self.now)

    def take(self) -> Order:
        order = self.writes.next(self.now)
        assert order is not None
        return order

    def done(self, *words: int) -> Order:
        """Make the next write; its register should then hold ``words``."""
        order = self.take()
        order.words = words
        self.writes.written(order, self.now)
        return order

    def reads(self, name: str, *words: int, asked_s: float = 0.0) -> Order | None:
        return self.writes.seen(f"pump.{name}", words, self.now + asked_s, self.now)


def test_safety_goes_first_and_among_equals_the_oldest() -> None:
    book = Book()
    book.ask("b", safety=False)
    book.now += 0.1
    book.ask("a")
    book.now += 0.1
    book.ask("blind")
    order = []
    while (item := book.writes.next(book.now)) is not None:
        book.writes.written(item, book.now)
        order.append(item.write.point)
    assert order == ["pump.a", "pump.blind", "pump.b"]


def test_the_newest_wins_and_an_older_one_never_comes_after_it() -> None:
    book = Book()
    for value in range(10):
        book.ask("a", float(value))
    assert book.take().write.value == 9.0
    book.done(9)
    assert book.writes.next(book.now) is None


def test_a_sequence_under_way_is_not_begun_anew_by_the_same_wish_and_is_dropped_by_another() -> None:
    book = Book()
    book.ask("a", 1.0)
    order = book.take()
    book.writes.stepped(order, [[2], [3]], book.now + 0.1)
    book.ask("a", 1.0)
    assert book.writes.next(book.now) is None, "its next word has to wait"
    assert book.writes.next(book.now + 0.1) is order
    book.ask("a", 0.0)
    other = book.take()
    assert (other.write.value, other.steps) == (0.0, None)


def test_what_nobody_answers_is_tried_again_and_expires() -> None:
    book = Book()
    book.ask("a")
    first = book.take()
    book.writes.put_off(first, "no reply in time", book.now + 0.1)
    assert book.writes.next(book.now) is None
    assert book.writes.next_at(float("inf")) == pytest.approx(book.now + 0.1)
    book.now += 0.1
    assert book.take() is first
    book.now += LIFE_S
    assert book.writes.expire(book.now) == [first]
    assert (first.fate, first.why) == (Fate.EXPIRED, "no reply in time")
    assert book.writes.next(book.now) is None


def test_a_write_from_before_the_loss_of_a_link_is_not_made_after_it() -> None:
    book = Book()
    book.ask("a", 100.0)
    book.now += 60.0
    book.writes.expire(book.now)
    assert book.writes.next(book.now) is None
    assert book.writes["pump.a"].fate is Fate.EXPIRED


def test_a_register_that_agrees_verifies_the_write() -> None:
    book = Book()
    book.ask("a")
    order = book.done(50)
    assert order.fate is Fate.WRITTEN
    assert book.reads("a", 0, asked_s=-0.01) is None, "was asked for before it was written: means nothing"
    assert order.fate is Fate.WRITTEN
    assert book.reads("a", 0) is order, "not yet: to be read again"
    assert book.reads("a", 50) is None
    assert order.fate is Fate.VERIFIED


def test_bits_of_others_in_the_register_do_not_matter() -> None:
    book = Book()
    book.ask("low_byte")
    order = book.done(0x12_34)
    book.reads("low_byte", 0xFF_34)
    assert order.fate is Fate.VERIFIED


def test_a_register_that_goes_on_to_differ_is_a_fault_until_it_agrees() -> None:
    book = Book()
    book.ask("a")
    order = book.done(50)
    book.now += VERIFY_S + 0.1
    assert book.reads("a", 7) is None
    assert (order.fate, order.why) == (Fate.MISMATCH, "written 0x0032, reads 0x0007")
    assert book.writes.faults(["pump.a", "pump.b"])
    book.ask("a")
    assert book.writes.faults(["pump.a"]), "to ask again mends nothing"
    book.done(50)
    assert book.writes.faults(["pump.a"])
    book.reads("a", 50)
    assert not book.writes.faults(["pump.a"])


def test_an_output_that_moves_all_the_time_is_still_caught() -> None:
    """A ramp writes anew before the older write could be judged; a device that ignores all of them is found all the
    same."""
    book, fates = Book(), set()
    for step in range(20):
        book.ask("a", float(step))
        order = book.done(step + 1)
        book.now += 0.3
        book.reads("a", 0)
        fates.add(order.fate)
        book.now += 0.2
    assert Fate.MISMATCH in fates


def test_an_output_that_moves_and_follows_is_never_faults() -> None:
    book = Book()
    for step in range(20):
        book.ask("a", float(step))
        book.done(step)
        book.now += 0.3
        book.reads("a", step - 1)  # the device is a step behind
        book.reads("a", step)
        assert not book.writes.faults(["pump.a"])
        book.now += 0.2


def test_a_refusal_is_a_fault_and_a_register_that_cannot_be_read_is_trusted_once_confirmed() -> None:
    book = Book()
    book.ask("blind")
    order = book.take()
    book.writes.refused(order, "exception 3 (illegal data value)", book.now)
    assert order.fate is Fate.REFUSED
    assert book.writes.faults(["pump.blind"])
    book.ask("blind")
    assert book.done(1).fate is Fate.WRITTEN
    assert not book.writes.faults(["pump.blind"])


def test_there_is_a_limit_and_a_replacement_is_let_in_even_then() -> None:
    plans = {f"pump.p{number}": plan(f"p{number}") for number in range(WRITES_MAX + 1)}
    writes = Writes(plans)
    taken = [writes.accept(Write(point, 1.0, True, "test"), 0.0) for point in plans]
    assert taken == [True] * WRITES_MAX + [False]
    assert writes.accept(Write("pump.p0", 2.0, True, "test"), 1.0)


@given(st.lists(st.sampled_from(["ask a", "ask b", "make", "fail", "agree", "differ", "wait", "expire"]), max_size=80))
def test_whatever_comes_no_write_is_made_twice_or_too_late(events: list[str]) -> None:
    book, made = Book(), list[Order]()
    for event in events:
        match event.split():
            case "ask", name:
                book.ask(name, book.now)
            case ["make"] if (order := book.writes.next(book.now)) is not None:
                assert not any(order is other for other in made)
                made.append(order)
                order.words = (1,)
                assert order.fate is Fate.ACCEPTED
                book.writes.written(order, book.now)
            case ["fail"] if (order := book.writes.next(book.now)) is not None:
                book.writes.put_off(order, "no reply", book.now + 0.1)
            case ["agree"]:
                book.reads("a", 1)
            case ["differ"]:
                book.reads("a", 2)
            case ["wait"]:
                book.now += 0.7
        book.writes.expire(book.now)
        waiting = book.writes.next(book.now)
        assert waiting is None or book.now <= waiting.expires
