"""The project's own data: synthetic posts, outcomes, prospects and lessons, the same on every machine.

What belongs here: a seeded generator, and what it hides for the strategies to find (`PATTERNS`) and not to find
(`NOISE_HASHTAG`). What does not: real posts and real people; e-mails end in example.com, phones are 555-01xx.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import numpy as np

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.mapping_files import Kind

SEED = 20260630
LAST_DAY = datetime(2026, 6, 30, tzinfo=UTC)
"""Fixed, so that the sample does not depend on the day it is made."""
DAYS = 180
POSTS_PER_ACCOUNT = 100
NOISE_SIGMA = 0.55
"""Of the log of a post's success: posts of one kind still differ about fivefold between their best and worst tenth."""

NOISE_HASHTAG = "#MondayMotivation"
"""On every fourth post, whatever the post: it does nothing."""

PATTERN_SHARE = 0.25
"""The part of an account's posts that are made to its platform's pattern; chance adds some."""

POST_TYPES = {
    "x": ("tweet", "thread", "image"),
    "instagram": ("reel", "carousel", "photo"),
    "linkedin": ("carousel", "text", "video"),
    "tiktok": ("video",),
    "youtube": ("video", "short"),
}
METRIC_RATES = {
    "x": {"views": 1.0, "likes": 0.02, "shares": 0.004, "comments": 0.003},
    "instagram": {"reach": 1.0, "likes": 0.05, "comments": 0.004, "saves": 0.01},
    "linkedin": {"impressions": 1.0, "reactions": 0.02, "comments": 0.004, "shares": 0.002},
    "tiktok": {"views": 1.0, "likes": 0.08, "comments": 0.005, "shares": 0.01},
    "youtube": {"views": 1.0, "likes": 0.035, "comments": 0.004},
}
"""The first metric is the audience; the others are shares of it."""

OBSERVATIONS = ((7, 0.85), (14, 0.95), (30, 1.0))
"""Days after the publication, and the part of the final counts reached by then."""

OBSERVED_AGAIN = 0.7
"""The part of the posts that were looked at again at each later age: somebody's export is never complete."""


@dataclass(frozen=True)
class Pattern:
    """Which posts do better than their account's others, and by which factor. None: any."""

    factor: float
    style: str | None = None
    post_type: str | None = None
    is_weekday_morning: bool = False

    def matches(self, style: str, post_type: str, published_at: datetime) -> bool:
        return (
            self.style in {None, style}
            and self.post_type in {None, post_type}
            and (not self.is_weekday_morning or (published_at.weekday() < 5 and 7 <= published_at.hour < 10))
        )


PATTERNS = {
    "linkedin": Pattern(3.0, style="how_to", post_type="carousel", is_weekday_morning=True),
    "tiktok": Pattern(2.6, style="question"),
    "x": Pattern(2.2, is_weekday_morning=True),
    "instagram": Pattern(2.4, style="story", post_type="reel"),
    "youtube": Pattern(2.5, style="count"),
}
"""What helps on each platform."""


@dataclass(frozen=True)
class Account:
    """Who publishes. `scale` is the median audience of a post: the accounts differ a hundredfold."""

    platform: str
    name: str
    niche: str
    scale: int


PROSPECT_IDS = tuple(f"prospect-{number:03d}" for number in range(60))
ACCOUNTS = (
    Account("x", "inbox_notes", "marketing", 900),
    Account("x", "lift_daily", "fitness", 14_000),
    Account("x", "second_career", "careers", 45_000),
    Account("instagram", "weeknight.pans", "cooking", 3_200),
    Account("instagram", "lift.daily", "fitness", 60_000),
    Account("linkedin", "inbox-notes", "marketing", 600),
    Account("linkedin", "second-career", "careers", 8_000),
    Account("linkedin", "harbor-analytics", "marketing", 26_000),
    Account("tiktok", "weeknightpans", "cooking", 40_000),
    Account("tiktok", "liftdaily", "fitness", 5_000),
    Account("youtube", "Weeknight Pans", "cooking", 12_000),
    Account("youtube", "Second Career", "careers", 1_500),
)


@dataclass(frozen=True)
class Vocabulary:
    """What a niche talks about."""

    actions: tuple[str, ...]
    subjects: tuple[str, ...]
    tips: tuple[str, ...]
    moments: tuple[str, ...]


VOCABULARIES = {
    "marketing": Vocabulary(
        ("write a newsletter people open", "find your first hundred customers", "price a small product",
         "turn one article into a week of posts", "run a launch without ads", "win back quiet subscribers"),
        ("landing page", "welcome e-mail", "customer interview", "pricing page", "content calendar", "launch post"),
        ("Put the promise in the first line", "Ask one question at a time", "Cut every sentence that sells twice",
         "Show the price before the form", "Send it on the same day each week", "Quote a customer, not yourself",
         "Test the subject line on five people", "End with one link, never three", "Reply to everyone who answers"),
        ("our best campaign had no design at all", "a client doubled the price and lost nobody",
         "we deleted half of our list and sales went up", "a typo in the subject line got us forty replies"),
    ),
    "fitness": Vocabulary(
        ("deadlift without back pain", "run your first ten kilometres", "train with twenty minutes a day",
         "do a first pull-up", "warm up before heavy squats", "keep training while travelling"),
        ("squat", "morning routine", "rest day", "warm-up", "running plan", "grip"),
        ("Film your side view once a week", "Add weight only when the last set felt easy", "Sleep before you optimise",
         "Walk for ten minutes after dinner", "Breathe out at the hardest point", "Keep one day a week really easy",
         "Write down every set", "Start with half of what you can do", "Pull your shoulders down before you lift"),
        ("I could not climb the stairs after my first run", "a broken wrist made my legs stronger",
         "my coach took the bar away for a month", "I finished last and signed up again the same day"),
    ),
    "cooking": Vocabulary(
        ("cook rice that never sticks", "make a pan sauce in five minutes", "bake bread with no kneading",
         "cut an onion without tears", "roast vegetables that stay crisp", "feed six people from one pot"),
        ("tomato sauce", "weeknight curry", "sourdough starter", "roast chicken", "lentil soup", "omelette"),
        ("Salt the water until it tastes like soup", "Dry the pan before the oil", "Let the meat rest on a warm plate",
         "Toast the spices first", "Save a cup of pasta water", "Turn the heat down earlier than you think",
         "Use the widest pan you have", "Add the lemon at the very end", "Taste it before it looks done"),
        ("my grandmother never measured anything", "I burnt the first three and kept the fourth",
         "the oven died an hour before dinner", "a neighbour traded me figs for a loaf"),
    ),
    "careers": Vocabulary(
        ("ask for a raise", "change careers after forty", "answer the weakness question", "write a resume for one job",
         "leave a job on good terms", "prepare for a panel interview"),
        ("cover letter", "first week", "salary talk", "portfolio", "exit interview", "job search"),
        ("Write down three results with numbers", "Ask what success looks like after six months",
         "Say the number, then stop talking", "Call one former colleague a week", "Tailor the top third of the page",
         "Practise the first sentence out loud", "Send the thank-you note on the same evening",
         "Keep a folder of kind words", "Ask who had the job before you"),
        ("I was rejected by the company that hired me a year later", "the best offer came from a coffee chat",
         "my smallest project got me the interview", "I said no to the title and yes to the team"),
    ),
}  # fmt: skip

MORNING_HOURS = (7, 8, 9)
HOURS = (*MORNING_HOURS, 12, 13, 17, 18, 19, 20, 21)
QUESTIONS = ("Would you {action} if nobody ever saw it?", "Ever tried to {action} and given up?",
             "Why does nobody teach us to {action}?", "Can you {action} by Friday?")  # fmt: skip
STYLES = ("how_to", "question", "story", "count", "opinion", "news")

FIRST_NAMES = ("Amara", "Ben", "Carla", "Dmitri", "Elena", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Keiko", "Liam",
               "Mona", "Nadia", "Oscar", "Priya", "Quentin", "Rosa", "Stefan", "Tara")  # fmt: skip
LAST_NAMES = ("Abbott", "Bergstrom", "Castellano", "Dvorak", "Eriksen", "Fontaine", "Galanis", "Hartwell", "Iyer",
              "Jankowski", "Kimura", "Lindqvist")  # fmt: skip
COMPANIES = ("Northwind Bakery", "Blue Harbor Analytics", "Pine Street Studio", "Granite Gym", "Juniper Legal",
             "Copper Kettle Foods", "Lantern Recruiting", "Orchard Software")  # fmt: skip
JOB_TITLES = ("Head of marketing", "Founder", "Sales lead", "Community manager", "Operations manager", "Editor")
NOTES = (
    "Met at the spring meetup; wants to {action}. Prefers mail to {email}.",
    "{first} asked for a demo in the second quarter and has a team of {count}.",
    "Replied to our post about the {subject}. Call {phone} after lunch.",
    "Downloaded the guide twice, never answered. Budget for {count} seats, decides with a partner.",
    "Warm: {first} {last} said the {subject} is what keeps the team up at night.",
)

LESSONS: tuple[tuple[str | None, str], ...] = (
    ("linkedin", "A carousel needs one idea a slide; readers leave at the first crowded one."),
    ("linkedin", "Posts before ten in the morning collect comments while people still have time to write them."),
    ("linkedin", "A link in the first comment did not help; a link in the text did not hurt."),
    ("linkedin", "Tagging people who were not part of the work costs trust."),
    ("tiktok", "The first two seconds decide: start with the question, not with the greeting."),
    ("tiktok", "Captions on screen hold those who watch without sound."),
    ("tiktok", "Answering a comment with a new video brings the first audience back."),
    ("x", "A thread earns more when its first post makes sense alone."),
    ("x", "Numbers in the first line help only when the reader can picture them."),
    ("x", "Deleting and reposting a quiet post made followers mute the account."),
    ("instagram", "Reels with a story are saved; reels with a trend are watched and forgotten."),
    ("instagram", "A cover with readable text doubles the visits to the profile grid."),
    ("instagram", "Hashtags sort, they do not sell: five fitting ones are enough."),
    ("youtube", "A title that counts something sets an expectation that the video must keep."),
    ("youtube", "Chapters cost nothing and bring back those who would have left."),
    ("youtube", "A second upload on the same day takes views from the first."),
    (None, "Compare a post with the usual level of its account, never with another account."),
    (None, "One post is an anecdote. Wait for ten before the plan changes."),
    (None, "The same idea in another format is a new post for nine readers out of ten."),
    (None, "When a post fails, look at the hour and the first line before the topic."),
)

Row = dict[str, object]
Picked = TypeVar("Picked")


@dataclass(frozen=True)
class Sample:
    """The rows of each kind. Posts carry their first observation, outcomes the later ones."""

    posts: list[Row]
    outcomes: list[Row]
    prospects: list[Row]
    lessons: list[Row]


def make_sample(seed: int = SEED) -> Sample:
    """Generate the sample: 1,200 posts of 12 accounts on 5 platforms, 60 prospects, 20 lessons."""
    random = np.random.default_rng(seed)
    posts: list[Row] = []
    outcomes: list[Row] = []
    for account in ACCOUNTS:
        for number in range(POSTS_PER_ACCOUNT):
            post, observations = _post(random, account, number)
            posts.append(post | observations[0])
            identity = {"platform": post["platform"], "post_id": post["post_id"]}
            outcomes.extend(identity | observation for observation in observations[1:])
    return Sample(posts, outcomes, _prospects(random), _lessons())


def _post(random: np.random.Generator, account: Account, number: int) -> tuple[Row, list[Row]]:
    pattern = PATTERNS[account.platform]
    style = _pick(random, STYLES)
    post_type = _pick(random, POST_TYPES[account.platform])
    published_at = (LAST_DAY - timedelta(days=int(random.integers(31, 31 + DAYS)))).replace(
        hour=_pick(random, HOURS), minute=int(random.integers(60))
    )
    if random.random() < PATTERN_SHARE:
        style, post_type = pattern.style or style, pattern.post_type or post_type
        if pattern.is_weekday_morning:
            published_at = published_at.replace(hour=_pick(random, MORNING_HOURS))
            published_at -= timedelta(days=max(0, published_at.weekday() - 4))  # a weekend's post moves to Friday
    text = _text(random, style, VOCABULARIES[account.niche])
    if random.random() < 0.25:
        text += f" {NOISE_HASHTAG}"
    post: Row = {
        "platform": account.platform,
        "post_id": f"{account.name.replace(' ', '').lower()}-{number:03d}",
        "account": account.name,
        "post_type": post_type,
        "niche": account.niche,
        "text": text,
        "published_at": published_at.isoformat(),
        "synthetic": "yes",
    }
    audience = account.scale * float(random.lognormal(0.0, NOISE_SIGMA))
    if pattern.matches(style, post_type, published_at):
        audience *= pattern.factor
    rates = {
        name: rate * (1.0 if rate == 1.0 else float(random.lognormal(0.0, 0.2)))
        for name, rate in METRIC_RATES[account.platform].items()
    }
    observations: list[Row] = [
        {"observed_at": (published_at + timedelta(days=days)).isoformat()}
        | {name: round(audience * rate * reached) for name, rate in rates.items()}
        for number, (days, reached) in enumerate(OBSERVATIONS)
        if number == 0 or random.random() < OBSERVED_AGAIN
    ]
    return post, observations


def _text(random: np.random.Generator, style: str, words: Vocabulary) -> str:
    action, subject = _pick(random, words.actions), _pick(random, words.subjects)
    first, second, third = (words.tips[index] for index in random.choice(len(words.tips), 3, replace=False))
    match style:
        case "how_to":
            return f"How to {action}:\n1. {first}.\n2. {second}.\n3. {third}."
        case "question":
            return f"{_pick(random, QUESTIONS).format(action=action)} {first}. {second}."
        case "story":
            return (
                f"True story: {_pick(random, words.moments)}. What it taught me about the {subject}: {_lower(first)}."
            )
        case "count":
            number = int(random.integers(3, 10))
            return f"{number} {subject} mistakes I see every week. The fix for most of them: {_lower(first)}. {second}."
        case "opinion":
            return f"Unpopular opinion: your {subject} is fine. {first}, {_lower(second)}, and leave the rest alone."
        case _:
            return f"New this week: everything we know about the {subject}, for all who want to {action}. {third}."


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


def _prospects(random: np.random.Generator) -> list[Row]:
    pairs = random.choice(len(FIRST_NAMES) * len(LAST_NAMES), len(PROSPECT_IDS), replace=False)
    prospects: list[Row] = []
    for number, (prospect_id, pair) in enumerate(zip(PROSPECT_IDS, pairs, strict=True)):
        first, last = FIRST_NAMES[pair % len(FIRST_NAMES)], LAST_NAMES[pair // len(FIRST_NAMES)]
        words = VOCABULARIES[_pick(random, tuple(VOCABULARIES))]
        email, phone = f"{first}.{last}@example.com".lower(), f"+1 415 555 01{number:02d}"
        prospects.append(
            {
                "prospect_id": prospect_id,
                "name": f"{first} {last}",
                "email": email,
                "phone": phone,
                "company": _pick(random, COMPANIES),
                "job_title": _pick(random, JOB_TITLES),
                "notes": _pick(random, NOTES).format(
                    first=first,
                    last=last,
                    email=email,
                    phone=phone,
                    action=_pick(random, words.actions),
                    subject=_pick(random, words.subjects),
                    count=int(random.integers(2, 40)),
                ),
            }
        )
    return prospects


def _lessons() -> list[Row]:
    return [
        {
            "lesson_id": f"lesson-{number:03d}",
            "platform": platform,
            "text": text,
            "learned_at": (LAST_DAY - timedelta(days=7 * number)).isoformat(),
        }
        for number, (platform, text) in enumerate(LESSONS)
    ]


def _pick(random: np.random.Generator, options: Sequence[Picked]) -> Picked:
    return options[int(random.integers(len(options)))]


def write_sample(folder: Path, seed: int = SEED) -> dict[Kind, Path]:
    """Write the sample as files that `everreach ingest` reads without a mapping; answers their paths.

    Args:
        folder: made where it is missing.
        seed: another one gives other posts with the same patterns.

    Raises:
        InvalidInput: the folder cannot be made, or a file is there that another's might be.
    """
    sample = make_sample(seed)
    paths: dict[Kind, Path] = {
        "posts": folder / "posts.csv",
        "outcomes": folder / "outcomes.jsonl",
        "prospects": folder / "prospects.csv",
        "lessons": folder / "lessons.jsonl",
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"{folder}: {error.strerror}; name a folder that can be written") from error
    if present := [path.name for path in paths.values() if path.exists()]:
        raise InvalidInput(f"{folder} has {', '.join(present)} already: name an empty folder")
    _write_csv(paths["posts"], sample.posts)
    _write_jsonl(paths["outcomes"], sample.outcomes)
    _write_csv(paths["prospects"], sample.prospects)
    _write_jsonl(paths["lessons"], sample.lessons)
    return paths


def _write_csv(path: Path, rows: list[Row]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write_jsonl(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
