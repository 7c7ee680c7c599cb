"""The safe unpickler reads plain values like Python's own, and refuses everything else."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcl_jax.utils import safe_pickle
from mcl_jax.utils.safe_pickle import DamagedPickleError, Name, RefusedPickleError, Vocabulary

NOTHING = Vocabulary({}, lambda value, _: value)

KEYS = st.text() | st.integers(-(2**59), 2**59) | st.booleans()
ATOMS = st.none() | KEYS | st.integers(-(2**200), 2**200) | st.floats(allow_nan=False)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner) | st.lists(inner).map(tuple),
    max_leaves=30,
)


@settings(max_examples=60)
@given(value=VALUES, protocol=st.integers(0, 5))
def test_plain_values_come_back(value, protocol):
    assert safe_pickle.load(pickle.dumps(value, protocol), NOTHING) == value


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("value", [b"", b"ab", bytes(70_000)])
def test_bytes_come_back(value, protocol):
    assert safe_pickle.load(pickle.dumps(value, protocol), NOTHING) == value


def test_a_bytearray_comes_back():
    assert safe_pickle.load(pickle.dumps(bytearray(b"ab"), 5), NOTHING) == bytearray(b"ab")


def test_shared_values_stay_one():
    shared = [1]
    first, second = safe_pickle.load(pickle.dumps((shared, shared), 2), NOTHING)
    assert first is second


def test_what_follows_the_end_is_ignored():
    assert safe_pickle.load(b"N.cposix\nsystem\n", NOTHING) is None


def test_names_stand_for_the_reader_s_own_functions():
    vocabulary = Vocabulary({"a.b": lambda x, y: [x, y], "a.Kind": None}, lambda value, state: (value, state))
    assert safe_pickle.load(b"ca\nb\nK\1ca\nKind\n\x86R.", vocabulary) == [1, Name("a.Kind")]
    assert safe_pickle.load(b"K\1K\2b.", vocabulary) == (1, 2)
    with pytest.raises(DamagedPickleError, match=r"a\.Kind is not a function"):
        safe_pickle.load(b"ca\nKind\n)R.", vocabulary)
    with pytest.raises(DamagedPickleError, match="TypeError"):  # one argument of two
        safe_pickle.load(b"ca\nb\nK\1\x85R.", vocabulary)


def test_a_state_reaches_the_object_in_the_memo():
    """As pickle writes it: memo, then state, then the object out of the memo."""
    vocabulary = Vocabulary({}, lambda _, state: state)
    assert safe_pickle.load(b"Nq\0K\7bh\0\x86.", vocabulary) == (7, 7)


def test_persistent_ids_are_the_reader_s():
    vocabulary = Vocabulary({}, lambda value, _: value, persistent=lambda key: ("storage", key))
    assert safe_pickle.load(b"K\1Q.", vocabulary) == ("storage", 1)
    with pytest.raises(RefusedPickleError, match="a persistent id"):
        safe_pickle.load(b"K\1Q.", NOTHING)


PIECES = [
    b"(",
    b")",
    b"t",
    b"l",
    b"]",
    b"}",
    b"a",
    b"e",
    b"s",
    b"u",
    b"N",
    b"K\1",
    b"I5\n",
    b"\x85",
    b"\x86",
    b"q\0",
]
PIECES += [b"q\1", b"h\0", b"h\1", b"\x94", b"V\n", b"R", b"b", b"0", b"Q", b"d", b".", b"\x80\x04"]


def nested(depth: int) -> bytes:
    return b")" + depth * b"\x85" + b"."


def test_values_nest_fifty_deep():
    value = safe_pickle.load(nested(50), NOTHING)
    for _ in range(50):
        (value,) = value
    assert value == ()
    with pytest.raises(DamagedPickleError, match="nested more than 50 deep"):
        safe_pickle.load(nested(51), NOTHING)


def test_depth_counts_what_a_call_returns():
    vocabulary = Vocabulary({"a.b": lambda x: x}, lambda value, _: value)
    called = b"ca\nb\n" + b")" + 40 * b"\x85" + b"\x85R"
    safe_pickle.load(called + 9 * b"\x85" + b".", vocabulary)
    with pytest.raises(DamagedPickleError, match="nested more than"):
        safe_pickle.load(called + 10 * b"\x85" + b".", vocabulary)


def test_shared_values_count_each_time():
    doubled = b")" + 8 * b"q\0h\0\x86" + b"."  # 511 values
    safe_pickle.load(doubled, NOTHING)
    with pytest.raises(DamagedPickleError, match="too often"):
        safe_pickle.load(b")" + 11 * b"q\0h\0\x86" + b".", NOTHING)


@pytest.mark.parametrize(
    "program", [b"]q\0h\0a.", b"]q\0]q\1h\0ah\0Na.", b"}q\0K\0h\0s.", b"]q\0\x85h\0Nb."], ids=repr
)
def test_a_container_in_another_must_not_change(program):
    with pytest.raises(DamagedPickleError, match="a container changes"):
        safe_pickle.load(program, NOTHING)


@pytest.mark.parametrize("key", [2**60, -(2**60), 2**61 - 1, 2.0, b"a", (), None])
def test_other_keys_are_refused(key):
    with pytest.raises(DamagedPickleError, match="a key that is neither"):
        safe_pickle.load(pickle.dumps({key: 1}, 4), NOTHING)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (b"", "no end"),
        (b"\x80\x06N.", "protocol 6"),
        (b"N\x80\x02.", "protocol 2 or a second one"),
        (b"\x80\x04\x95\x03\0\0\0\0\0\0\0N.", "a frame is longer"),
        (b"NN.", "ValueError"),
        (b".", "ValueError"),
        (b"(.", "a mark"),
        (b"a.", "stack underflow"),
        (b"Na.", "stack underflow"),
        (b"t.", "no mark"),
        (b"NNa.", "no list"),
        (b"NNNs.", "no dict"),
        (b"}(Nu.", "no dict"),
        (b"h\5.", "KeyError"),
        (b"NNR.", "not a function"),
        (b"NN\x93.", "no name"),
        (b"p0\n.", "stack underflow"),
    ],
)
def test_damage_is_named(program, reason):
    with pytest.raises(DamagedPickleError, match=reason):
        safe_pickle.load(program, NOTHING)


def test_names_and_opcodes_are_shown_in_printable_form():
    with pytest.raises(RefusedPickleError, match=r"^os\\n\.system$"):
        safe_pickle.load(b"\x80\x04\x8c\x03os\n\x8c\x06system\x93.", NOTHING)
    with pytest.raises(RefusedPickleError, match="^the opcode INST$"):
        safe_pickle.load(b"(ios\nsystem\n.", NOTHING)
    with pytest.raises(RefusedPickleError, match=r"^the unknown opcode b'\\xff'$"):
        safe_pickle.load(b"\xff", NOTHING)


@settings(max_examples=300)
@given(program=st.lists(st.sampled_from(PIECES)).map(b"".join))
def test_any_program_is_read_or_refused(program):
    try:
        value = safe_pickle.load(program, NOTHING)
    except (DamagedPickleError, RefusedPickleError):
        return
    assert pickle.loads(program) == value
