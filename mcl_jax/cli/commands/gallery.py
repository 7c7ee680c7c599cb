"""`mcl-jax gallery`: lists, renames and deletes the people of a gallery."""

import argparse
import json

from mcl_jax.gallery.gallery import open_gallery
from mcl_jax.utils.terminal import count

HELP = "list, rename or delete the people of a gallery, or check its files"

EXAMPLES = """\
  mcl-jax gallery list G
  mcl-jax gallery rename G "A. N. Other" "Somebody Else"
  mcl-jax gallery delete G "Somebody Else"
  mcl-jax gallery check G
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    several = (
        ("list", (), "list the people and the number of their walks"),
        ("rename", ("name", "new_name"), "give a person another name"),
        ("delete", ("name",), "remove a person with all their walks"),
        ("check", (), "read all embeddings and check them for damage"),
    )
    for action, names, meaning in several:
        one = actions.add_parser(action, help=meaning)
        one.add_argument("gallery", metavar="G", help="folder of the gallery")
        for name in names:
            one.add_argument(name)
        if action == "list":
            one.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command.

    Raises:
        UserError: for any mistake that the user can fix.
    """
    gallery = open_gallery(arguments.gallery)
    if arguments.action == "list" and arguments.json:
        print(json.dumps({"model": gallery.model.path, "people": gallery.people()}))
    elif arguments.action == "list":
        people = gallery.people()
        print(
            f"{arguments.gallery}: {count(len(people), 'person', 'people')}, "
            f"{count(sum(people.values()), 'walk')}; {gallery.model.path}"
        )
        for name, own in people.items():
            print(f"{own:>6}  {name}")
    elif arguments.action == "rename":
        gallery.rename(arguments.name, arguments.new_name)
    elif arguments.action == "delete":
        gallery.delete(arguments.name)
    else:
        gallery.check()
        print(f"{arguments.gallery}: sound")
