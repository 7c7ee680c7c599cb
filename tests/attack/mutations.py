"""Random damage to bytes, texts and names, from a seeded generator."""

import random
import re

# fmt: off
NUMBERS = (
    "-1", "0", "1", "00", "007", "1e5", "1e400", "-1e400", ".inf", "-.inf", ".nan", "inf", "nan",
    "infinity", "0x1f", "0o17", "0b11", "1_000", "1:30", "190:20:30", "+", "-",
    "10000000000000000000000", "99999999999999999999999", "18446744073709551616", "9223372036854775808",
    "4294967296", "0.1.2", "~", "null", "true", "false", "yes", "no", "on", "off", "maybe", "True",
    "None", "1j", "2**31",
)
# fmt: on

NAMES = (
    "",
    " ",
    " lead",
    "trail ",
    "\u00e9",
    "e\u0301",
    "$\\frac$",
    "$x^$",
    "$",
    "a_b^c",
    "\\",
    "..",
    ".",
    "/",
    "a/b",
    "-x",
    "--help",
    "%s%n",
    "{0}",
    "${HOME}",
    "\x1b[31mred\x1b[0m",
    "\x00",
    "\n",
    "a\r\nb",
    "\u202ereversed",
    "\ud800",
    "\udcff",
    "漢字",
    "\U0001f6b6",
    "<script>alert(1)</script>",
    "'\"",
    "a" * 300,
    "é" * 200,
    "a" * 5000,
    "CON",
    "None",
    "nan",
    "0" * 50,
)

YAML_PIECES = (
    "!!int ''",
    "!!int x",
    "!!float y",
    "!!bool maybe",
    "!!timestamp x",
    "!!binary '%'",
    "!!set {a, b}",
    "!!omap [a: 1]",
    "!!pairs [a: 1]",
    "!!null x",
    "!!str 5",
    "!!map []",
    "!!seq {}",
    "!!python/object/apply:os.getcwd []",
    "!x y",
    "! z",
    "2001-01-01",
    "2001-99-99",
    "2001-12-14t21:59:43.10-05:00",
    "? [a, b]\n: c",
    "? {a: b}\n: c",
    "{[a]: b}",
    "{{a: b}: c}",
    "{? a}",
    "<<: {a: 1}",
    "<<: 5",
    "=",
    "= : 1",
    "&a [*a]",
    "*b",
    '"\\UFFFFFFFF"',
    '"\\U00110000"',
    '"\\uD800"',
    '"\\x00"',
    '"\\e[31m"',
    '"\\q"',
    '"\\x"',
    "'",
    '"',
    "|\n  text",
    ">9\n  text",
    "|x",
    "%YAML 9.9\n---",
    "%TAG ! !\n---",
    "---",
    "...",
    "\t",
    "\0",
    "\ufeff",
    "\x85",
    "\u2028",
    "@",
    "`",
    "[" * 40,
    "{" * 40,
    "[" * 5000,
    "- " * 2000,
    "? " * 500,
    "[]: " * 30,
    "0x" + "f" * 999,
    "0x" + "f" * 9000,
    "9" * 999,
    "9" * 9000,
    "0b" + "1" * 60_000,
    "1" + ":59" * 300,
    "1" + ":59" * 20_000,
    "a: " * 20,
)


def flipped(content: bytes, rng: random.Random) -> bytes:
    """Returns bytes with one bit changed."""
    if not content:
        return b"\1"
    changed = bytearray(content)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Returns bytes with some harm: a bit, a byte, a piece cut out, doubled, emptied or moved."""
    kind = rng.choice(("bit", "byte", "byte", "cut off", "cut out", "doubled", "zeros", "moved", "number"))
    place = rng.randrange(len(content) + 1)
    length = min(1 + int(rng.expovariate(0.1)), len(content) - place)
    before, piece, after = content[:place], content[place : place + length], content[place + length :]
    if kind == "bit":
        return flipped(content, rng)
    if kind == "cut off":
        return before
    if kind == "doubled":
        return before + piece * rng.choice((2, 3, 100)) + after
    if kind == "zeros":
        return before + bytes(length) + after
    if kind == "moved":
        other = rng.randrange(len(content) + 1)
        rest = before + after
        return rest[:other] + piece + rest[other:]
    if kind == "cut out":
        return before + after
    if kind == "number":
        chosen = rng.choice((0, 1, 127, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1))
        return before + chosen.to_bytes(8, "little")[: rng.choice((1, 2, 4, 8))] + after[7:]
    return before + bytes([rng.randrange(256)]) + content[place + 1 :]


def text_damaged(text: str, rng: random.Random, pieces: tuple[str, ...]) -> str:
    """Returns a text with harm to one or two of its words, lines or characters."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        words = list(re.finditer(r"[\w.$-]+", text)) or [re.search("", text)]
        word, other = rng.choice(words), rng.choice(words)
        kind = rng.randrange(6)
        if kind <= 2:
            piece = rng.choice(NUMBERS if kind == 2 else pieces)
            text = text[: word.start()] + piece + text[word.end() :]
        elif kind == 3:
            text = text[: word.start()] + other[0] + text[word.end() :]
        elif kind == 4:
            lines = text.split("\n")
            lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines + list(pieces)))
            text = "\n".join(lines)
        else:
            text = damaged(text.encode("utf-8", "surrogatepass"), rng).decode("utf-8", "surrogateescape")
    return text
