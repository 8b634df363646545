"""What is read of prospects. How they are written is `merge.py`'s."""

from resources.database import Connection


def names(connection: Connection) -> list[str]:
    """The names of the people we know, to be scrubbed from every text."""
    return [name for (name,) in connection.execute("SELECT DISTINCT name FROM prospects WHERE name ~ '\\S'")]
