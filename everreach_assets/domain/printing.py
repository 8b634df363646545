"""Other people's words on a line of ours."""


def printable_line(text: str) -> str:
    """The text on one line, without characters that control a terminal or turn the direction of what is read."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())
