"""What the zoo says when the input is at fault."""


class ZooError(Exception):
    """A mistake of the user's or of the input: one sentence that says what is wrong, where, and what to do.

    The verbs print the sentence and exit with code 2; no traceback is shown.
    """
