"""The one exception that means "the user can mend this"."""


class BlemishError(Exception):
    """A fault in the input, said in one sentence that names it and the way out.

    The command line prints the sentence and exits with status 2; nothing else in the package is caught there.
    """
