"""The files and calls in which the people of `tests/canaries.py` are pushed: right ones, and wrong in every way."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.canaries import CONTROL, FORMATS, IDENTITIES, Identity, handles


def write_files(folder: Path) -> list[tuple[str, Path]]:
    """Kinds and files, in which the people stand in texts, in columns of their own and in nested JSON."""
    posts: list[dict[str, object]] = [
        {
            "platform": ("linkedin", "x")[who.number % 2],
            "post_id": f"{CONTROL}-{who.number}-{number}",
            "account": "second-career",
            "niche": f"{CONTROL} niche",
            "text": f"{CONTROL} post {number}.\n{write(who)}",
            "published_at": f"2026-0{1 + (who.number + number) % 8}-{1 + who.number % 27:02d}T10:00:00Z",
            "impressions": 100 + 37 * who.number + number,
            "author": who.name,
            "author_email": who.email,
            "author_phone": who.phone_spellings[number],
            "author_json": json.dumps({"contact": who.email_spellings[number], "names": [who.first, who.last]}),
        }
        for who in IDENTITIES
        for number, write in enumerate(FORMATS.values())
    ]
    _write_csv(folder / "posts.csv", posts)
    outcomes = [  # every second format does better: a strategy that foresees it is put in force
        post
        | {
            "impressions": (5_000, 15_000)[number % 2] + 11 * number,
            "author": {"name": post["author"], "mail": [post["author_email"]]},
        }
        for number, post in enumerate(posts)
    ]
    _write_json(folder / "outcomes.jsonl", outcomes)
    _write_csv(folder / "prospects.csv", [_prospect(who) for who in IDENTITIES])
    lessons = [
        {
            "lesson_id": f"{CONTROL}-{who.number}-{number}",
            "platform": "linkedin",
            "text": f"{CONTROL} lesson.\n{write(who)}",
            "learned_at": "2026-01-01T00:00:00Z",
            "told_by": {"name": who.name, "phone": who.phone_spellings},
        }
        for who in IDENTITIES
        for number, write in enumerate(FORMATS.values())
    ]
    _write_json(folder / "lessons.jsonl", lessons)
    names = ("prospects.csv", "posts.csv", "outcomes.jsonl", "lessons.jsonl")  # whoever is known is known first
    return [(Path(name).stem, folder / name) for name in names]


def _prospect(who: Identity) -> dict[str, str]:
    return {
        "prospect_id": f"{CONTROL}-{who.number}",
        "name": who.name,
        "email": who.email,
        "phone": who.phone_spellings[who.number % 8],
        "company": "Kelp Works",
        "job_title": "Head of Growth",
        "notes": "\n\n".join([*(write(who) for write in FORMATS.values()), handles(who)]),
        "assistant": who.phone_spellings[0],
    }


def write_wrong_files(folder: Path) -> list[tuple[str, Path]]:
    """Kinds and files that cannot be taken, in the ways in which files go wrong."""
    good = {"platform": "x", "post_id": "1", "text": "hooks", "published_at": "2026-01-01T00:00:00Z", "likes": "1"}
    shifted = [
        good | {column: given}
        for who in IDENTITIES
        for given in (
            who.name,
            who.email,
            who.phone_spellings[0],
            f"{who.first}\n{who.last}",
            FORMATS["signature"](who),
        )
        for column in ("platform", "post_id", "published_at", "likes")
        if not (column == "post_id" and "\n" not in given)  # an id may be any text on a line
    ]
    _write_csv(folder / f"{CONTROL}-shifted.csv", shifted)
    people = [_prospect(who) for who in IDENTITIES]
    for each in people:
        each["prospect_id"] = each["notes"]
    _write_csv(folder / "prospects-without-ids.csv", people)
    who = IDENTITIES[7]
    values = [who.name, who.email, who.phone_spellings[0]]
    (folder / "no-header.csv").write_text(f"{','.join(values)}\n{IDENTITIES[8].name},b,c\n", encoding="utf-8")
    (folder / "no-header-either.csv").write_text(f"{who.name},{who.name},{who.email}\nb,c,d\n", encoding="utf-8")
    (folder / "broken.jsonl").write_text(
        f'{{"post_id": "1", "text": "{who.name} {who.email}\n["{who.email}"]\n"{who.email}"\n{{"{who.name}": 1e999}}\n',
        encoding="utf-8",
    )
    (folder / "open-quote.csv").write_text(
        f'platform,post_id,text\nx,1,"{who.name}\nx,2,{who.email},b\n', encoding="utf-8"
    )
    (folder / "latin.csv").write_bytes(f"platform,post_id,text\nx,1,\u00e9 {who.name}\n".encode("latin-1"))
    names = ("no-header.csv", "no-header-either.csv", "broken.jsonl", "open-quote.csv", "latin.csv")
    return [
        ("posts", folder / f"{CONTROL}-shifted.csv"),
        ("prospects", folder / "prospects-without-ids.csv"),
        *(("posts", folder / name) for name in names),
        ("prospects", folder / "no-header.csv"),
    ]


def outcome_calls() -> list[dict[str, object]]:
    """Calls of `record_outcome`, right ones and wrong ones."""
    calls: list[dict[str, object]] = []
    for who in IDENTITIES:
        right: dict[str, object] = {"post_id": f"call-{who.number}", "platform": "x", "metrics": {"likes": who.number}}
        text = "\n\n".join(write(who) for write in FORMATS.values())
        calls += [
            right | {"text": text},
            right | {"text": text, "platform": who.name},
            right | {"text": text, "post_id": text},
            right | {"text": text, "metrics": {"likes": who.phone_spellings[0]}},
            right | {"text": text, "metrics": {who.email: 1}},
            right | {"post_id": f"account-{who.number}", "text": "hooks", "account": who.email},
            right | {"post_id": f"type-{who.number}", "text": "hooks", "post_type": f"call {who.phone_spellings[0]}"},
            right | {"text": text + "\0"},
            right | {"text": 7, "account": text},
        ]
    return calls


def _write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _write_json(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
