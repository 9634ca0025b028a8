"""The module `json.decoder` of the frozen plugin: C code, _json, asks it for the class of its errors, and for no more.

The standard library's takes twenty others along, `re` and `enum` among them.
"""


class JSONDecodeError(ValueError):
    """As in json/decoder.py: what is wrong, and where."""

    def __init__(self, what, text, position):
        """Says it as the standard library does."""
        line = text.count("\n", 0, position) + 1
        column = position - text.rfind("\n", 0, position)
        super().__init__(f"{what}: line {line} column {column} (char {position})")
