"""`mpt-keras pretrained`: the tickets that come with the package."""

from mpt_keras.commands.reading import say

HELP = (
    "The tickets that come with the package, in a table; or all that is known "
    "of one. Their names stand for FILE in the other commands."
)


def add_arguments(parser):
    parser.add_argument("name", metavar="NAME", nargs="?", help="of a ticket")


def run(options):
    from mpt_keras import pretrained

    name = options.name
    say(pretrained.list() if name is None else pretrained.find(name))
