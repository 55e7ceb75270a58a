"""The commands of the zoo by name: `zoo train model=ae` is `python -m zoo.train model=ae`; without a name they are listed."""

import os
import sys

from zoo.errors import nearest

COMMANDS = {
    "train": "train a model on a data set, or several (-m)",
    "evaluate": "measure a trained model on the test split",
    "generate": "draw samples, reconstructions, interpolations and edits of a trained model",
    "compare": "put runs side by side: table, CSV, Markdown, an HTML page",
    "prepare": "read a data set into its packed store, ahead of training",
    "bench": "measure speed and memory on this machine",
}


def main() -> None:
    """Becomes the process of the command that is named."""
    name, arguments = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    if name in ("-h", "--help"):
        print("zoo COMMAND [group=choice] [key=value] …     (zoo COMMAND --help tells the settings of a command)\n")
        for command, what in COMMANDS.items():
            print(f"  {command:10} {what}")
        return
    if name not in COMMANDS:
        print(f"zoo: there is no command '{name}'; {nearest(name, list(COMMANDS))}", file=sys.stderr)
        raise SystemExit(2)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", f"zoo.{name}", *arguments])  # further ranks are started as this process was


if __name__ == "__main__":
    main()
