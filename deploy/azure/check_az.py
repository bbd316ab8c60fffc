"""Puts calls of az, one a line on standard input, through the Azure CLI's own parser of arguments.

Nothing is executed: right after the parser has accepted a call, it is given up.
"""

import shlex
import sys

from azure.cli.core import get_default_cli
from azure.cli.core.parser import AzCliCommandParser


class Accepted(BaseException):
    """The arguments are fine. Not an Exception, for the CLI reports those as failures."""


parse_args = AzCliCommandParser.parse_args


def parse_and_stop(self, args=None, namespace=None):
    parse_args(self, args, namespace)
    raise Accepted


AzCliCommandParser.parse_args = parse_and_stop


def accepts(call):
    try:
        get_default_cli().invoke(call)
    except Accepted:
        return True
    except SystemExit:
        pass  # The parser has said why.
    return False


calls = [shlex.split(line) for line in sys.stdin]
refused = [call for call in calls if call[0] != "az" or not accepts(call[1:])]
for call in refused:
    print("refused:", shlex.join(call), file=sys.stderr)
print(f"az: {len(calls) - len(refused)} calls accepted, {len(refused)} refused")
sys.exit(bool(refused) or not calls)
