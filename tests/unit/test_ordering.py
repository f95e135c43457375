"""The order of a stage."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaglider_core.errors import ConfigurationError
from deltaglider_core.interfaces.contribution import Order
from deltaglider_core.ordering import override_order, resolve_order


def test_without_declarations_the_phase_decides_and_then_the_name() -> None:
    orders = {
        "b": Order(),
        "z": Order(phase="first"),
        "a": Order(),
        "c": Order(phase="last"),
        "y": Order(phase="first"),
    }
    assert resolve_order("codecs", orders) == ("y", "z", "a", "b", "c")


def test_before_and_after_bind_more_than_phase_and_name() -> None:
    orders = {
        "encryption": Order(phase="first", after=("delta",)),
        "delta": Order(phase="last"),
        "quota": Order(before=("delta",)),
    }
    assert resolve_order("storage_layers", orders) == ("quota", "delta", "encryption")


def test_an_absent_neighbour_is_ignored() -> None:
    orders = {"b": Order(after=("missing",)), "a": Order(before=("missing",))}
    assert resolve_order("codecs", orders) == ("a", "b")


def test_an_absent_requirement_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"gates: 'a' requires 'limiter', .*install"):
        resolve_order("gates", {"a": Order(requires=("limiter",))})
    assert resolve_order("gates", {"a": Order(requires=("b",)), "b": Order()}) == ("a", "b")


def test_a_cycle_is_printed_as_a_path() -> None:
    orders = {
        "a": Order(before=("b",)),
        "b": Order(before=("c",)),
        "c": Order(before=("a",)),
        "innocent": Order(),
        "behind": Order(after=("a",)),
    }
    with pytest.raises(ConfigurationError) as caught:
        resolve_order("routers", orders)
    assert str(caught.value).startswith("routers: ")
    assert "a -> b -> c -> a;" in str(caught.value)


def test_an_entry_before_itself_is_a_cycle() -> None:
    with pytest.raises(ConfigurationError, match="a -> a;"):
        resolve_order("routers", {"a": Order(before=("a",))})


NAMES = st.sampled_from("abcdefg")
ORDERS = st.dictionaries(
    NAMES,
    st.builds(
        Order,
        phase=st.sampled_from(["first", "normal", "last"]),
        before=st.lists(NAMES, max_size=2).map(tuple),
        after=st.lists(NAMES, max_size=2).map(tuple),
    ),
    max_size=7,
)


def outcome(orders: dict[str, Order]) -> tuple[tuple[str, ...], str]:
    """The order, or the sentence that refuses it."""
    try:
        return resolve_order("stage", orders), ""
    except ConfigurationError as error:
        return (), str(error)


@settings(deadline=None, max_examples=200)
@given(orders=ORDERS, seed=st.randoms(use_true_random=False))
def test_the_result_obeys_every_declaration_and_not_the_registration(
    orders: dict[str, Order], seed: object
) -> None:
    shuffled = list(orders)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    result, problem = outcome(orders)
    again = outcome({name: orders[name] for name in shuffled})
    assert again == (result, problem)
    if problem:
        path = problem.split("itself: ")[1].split(";")[0].split(" -> ")
        assert path[0] == path[-1]
        for one, other in itertools.pairwise(path):
            assert other in orders[one].before or one in orders[other].after
        return
    assert sorted(result) == sorted(orders)
    for name, order in orders.items():
        here = result.index(name)
        assert all(here < result.index(other) for other in order.before if other in orders)
        assert all(here > result.index(other) for other in order.after if other in orders)


def test_an_override_is_taken_as_it_is() -> None:
    assert override_order("codecs", ("b", "a"), ("a", "b")) == ("b", "a")


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        (("a",), "missing: b"),
        (("a", "b", "c", "d"), "unknown: c, d"),
        (("a", "x"), "missing: b; unknown: x"),
        (("a", "b", "a"), "listed twice: a"),
        ((), "missing: a, b"),
    ],
)
def test_an_override_must_be_total(listed: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        override_order("storage_layers", listed, ("a", "b"))
    assert "advanced.pipeline.storage_layers" in str(caught.value)
    assert str(caught.value).endswith(words)
    assert caught.value.exit_code == 4


def test_a_misspelt_place_is_refused_and_not_ignored() -> None:
    from deltaglider_core.interfaces.admission import GateType, Verdict

    with pytest.raises(ValueError, match="phase 'erly'"):
        Order(phase="erly")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Order\.requires is a text; write a tuple"):
        Order(requires="maintenance")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="gate 'night' has the stage 'afterauth'"):
        GateType(name="night", summary="", open=None, stage="afterauth")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="verdict 'deny'"):
        Verdict(action="deny", rule="r")  # type: ignore[arg-type]
