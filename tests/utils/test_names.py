from mcl_jax.utils.names import short_name, short_names


def test_a_long_name_keeps_both_ends():
    assert short_name("nm-01", 12) == "nm-01"
    assert short_name("participant_0012", 12) == "partic…_0012"
    assert len(short_name("x" * 100, 12)) == 12


def test_shortened_names_stay_different():
    names = ["a long name of one (A) person", "a long name of two (B) person", "short"]
    assert short_names(names, 12) == {
        names[0]: "a long…erson",
        names[1]: "a long…erson (2)",
        "short": "short",
    }
