"""What the zoo says when the input is at fault."""

import difflib


class ZooError(Exception):
    """A mistake of the user's or of the input: one sentence that says what is wrong, where, and what to do.

    The commands print the sentence and exit with code 2; no traceback is shown.
    """


def nearest(name: str, valid: list[str]) -> str:
    """The end of a sentence on a name that is not among `valid`: "did you mean …?", or all of them."""
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"valid: {', '.join(sorted(valid))}."
