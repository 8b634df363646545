"""`everreach search`: the documents most similar to a text."""

import click

from everreach_assets.commands.shared import read_settings
from everreach_assets.domain.collections import COLLECTIONS, CONTENT
from everreach_assets.domain.errors import InvalidInput


@click.command()
@click.argument("text")
@click.option("--collection", type=click.Choice(tuple(COLLECTIONS)), default=CONTENT.name, show_default=True)
@click.option("-n", default=5, show_default=True, type=click.IntRange(1, 10_000), help="How many.")
@click.option("--where", help='Filter on metadata, in JSON: \'{"platform": "x", "score": {"$gt": 1}}\'.')
def search(text: str, collection: str, n: int, where: str | None) -> None:
    """The documents most similar to TEXT, nearest first, with their metadata and the beginning of their text."""
    import json

    from everreach_assets.memory import open_memory
    from resources import documents

    try:
        condition = json.loads(where) if where else None
    except json.JSONDecodeError as error:
        raise InvalidInput(f"--where is no JSON: {error}") from None
    with open_memory(read_settings()) as memory:
        query = memory.embedder.embed_query(collection, text)
        matches = memory.vector_db.search(collection, query.vector, n, condition)
        with memory.database.connection() as connection:
            texts = documents.texts(connection, collection, [match.doc_id for match in matches])
        excerpts = {doc_id: memory.embedder.excerpt(collection, found) for doc_id, found in texts.items()}
    for match in matches:
        click.echo(f"{1 - match.distance:.3f}  {match.doc_id}  {json.dumps(dict(match.metadata), ensure_ascii=False)}")
        if excerpt := excerpts.get(match.doc_id):
            click.echo(f"       {excerpt}")
    if not matches:
        click.echo(f"Nothing in {collection} matches.")
