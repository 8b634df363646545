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
    """The documents most similar to TEXT, nearest first, with their metadata and the beginning of their text.

    Where no provider can be asked, documents are ranked by their words: they have no similarity, and it is said.
    """
    import json

    from everreach_assets.memory import open_memory
    from everreach_assets.search import search_text
    from resources import documents

    try:
        condition = json.loads(where) if where else None
    except json.JSONDecodeError as error:
        raise InvalidInput(f"--where is no JSON: {error}") from None
    with open_memory(read_settings()) as memory:
        result = search_text(
            collection,
            text,
            n,
            condition,
            database=memory.database,
            embedder=memory.embedder,
            vector_db=memory.vector_db,
        )
        with memory.database.connection() as connection:
            texts = documents.texts(connection, collection, [each.doc_id for each in result.found])
        excerpts = {doc_id: memory.embedder.excerpt(collection, found) for doc_id, found in texts.items()}
    for each in result.found:
        similarity = "words" if each.similarity is None else f"{each.similarity:.3f}"
        click.echo(f"{similarity}  {each.doc_id}  {json.dumps(dict(each.metadata), ensure_ascii=False)}")
        if excerpt := excerpts.get(each.doc_id):
            click.echo(f"       {excerpt}")
    if result.is_degraded:
        click.echo(f"{', '.join(result.by_text)} cannot be asked now: its documents are ranked by their words.")
    if not result.found:
        click.echo(f"Nothing in {collection} matches.")
