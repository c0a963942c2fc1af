"""The report as one page that needs nothing else."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from smarttune.recommendation import Reason, Recommendation, Setting
from smarttune.report.html import plots, report_html
from smarttune.report.summary import summarize
from smarttune.rulebook import Rulebook
from smarttune.space import Choice, Fixed
from smarttune.trials import TrialLog, TrialRecord
from tests.report.test_summary import (
    ACTIVATION,
    LOSS,
    RATE,
    UNITS,
    fingerprint,
    finished,
    recommendation,
    run_with,
    trial,
)

# Elements of HTML that have no end tag.
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
LOADING = {"src", "href", "xlink:href", "data", "action", "poster", "srcset", "background"}

HISTORY = "Best score over trials"
CURVES = "Validation curves of the best trials"
SLICES = "Score against each searched hyperparameter"


class Page(HTMLParser):
    """A parsed page: its elements, the text in each kind of element, and what does not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.wrong: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.wrong += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element and open it."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that ends at once."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Close an element, which must be the last one opened."""
        if not self._open or self._open.pop() != tag:
            self.wrong.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        """Add text to the element around it and all around that."""
        for tag in set(self._open):
            self.texts[tag][-1] += data

    @property
    def tags(self) -> list[str]:
        """The names of all elements."""
        return [tag for tag, _ in self.elements]

    @property
    def rows(self) -> list[list[str]]:
        """The cells of the rows of all tables, header cells apart."""
        cells = iter(self.texts["td"])
        counts: list[int] = []
        for tag in self.tags:
            if tag == "tr":
                counts.append(0)
            elif tag == "td":
                counts[-1] += 1
        return [[next(cells).strip() for _ in range(n)] for n in counts if n]


def many_trials(number: int = 14) -> TrialLog:
    """The recommendation, good and bad trials, and one of each kind of failure."""
    scored = [
        trial(
            i,
            0.6 - 0.03 * i,
            outcome="stopped" if i == 2 else "completed",
            values={
                RATE: 1e-3 * (1 + i),
                UNITS: 2 ** (4 + i % 4),
                ACTIVATION: ("relu", "silu", "tanh")[i % 3],
            },
        )
        for i in range(1, number)
    ]
    failed = [
        trial(90, message="Traceback: boom"),
        trial(91, outcome="diverged", values={RATE: 1e-2}),
        trial(92, outcome="out_of_memory"),
    ]
    return TrialLog(LOSS, [trial(0, 0.5, is_default=True), *scored, *failed])


def report_of(path: Path, log: TrialLog, found: Recommendation, book: Rulebook) -> dict[str, Any]:
    """The report of a search."""
    return summarize(run_with(path, log, found), finished(), book)


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory, book: Rulebook) -> str:
    """The page of a search with something of everything."""
    log, found = many_trials(), recommendation()
    path = tmp_path_factory.mktemp("html") / "run"
    return report_html(report_of(path, log, found, book), log, found)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    """That page, parsed."""
    return Page(html)


def test_every_element_is_closed(html: str, page: Page) -> None:
    """The page is one document whose elements nest."""
    assert html.startswith("<!doctype html>")
    assert page.wrong == []
    assert [page.tags.count(t) for t in ("html", "head", "body", "title", "h1")] == [1] * 5


def test_the_page_loads_nothing(html: str, page: Page) -> None:
    """No script, frame, picture, sheet or font comes from elsewhere; links stay in the page."""
    forbidden = {"script", "link", "iframe", "img", "image", "object", "embed", "base", "audio"}
    assert not forbidden & set(page.tags)
    for _, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in LOADING or str(value).startswith("#")
    assert "@import" not in html
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]*)\)", html))


def test_plots_are_part_of_the_page(page: Page) -> None:
    """Three plots stand inline under their titles, their text as text."""
    assert page.tags.count("svg") == 3
    assert [t for t in page.texts["h2"] if t in (HISTORY, CURVES, SLICES)] == [
        HISTORY,
        CURVES,
        SLICES,
    ]
    for label in ("trial", "epoch", "val_loss", "best so far", "recommendation", RATE, ACTIVATION):
        assert label in page.texts["text"]


def test_every_section_is_there(page: Page) -> None:
    """Headings, in order, after the plots."""
    assert page.texts["h2"][3:] == [
        "Leaderboard",
        "What the winner changed",
        "Held-back test rows",
        "A sample",
        "Did the rules hold?",
        "Every setting and its reason",
        "Next",
    ]


def test_failures_are_shown(page: Page) -> None:
    """The outcomes count failed and diverged trials, which are on no leaderboard."""
    outcomes = " ".join(page.texts["p"][0].split())

    assert outcomes.startswith("1,000 rows, target y (regression). Strategy random: 17 trials,")
    assert "(13 completed, 1 stopped, 1 failed, 1 diverged, 1 out_of_memory)" in outcomes
    assert not {"0090", "0091", "0092"} & {row[0] for row in page.rows}


def test_the_headline_leads(page: Page) -> None:
    """The first emphasized paragraph is the sentence on whether searching paid."""
    assert page.texts["p"][1].startswith("The recommendation reached val_loss 0.5000, the best")


def test_tables_hold_the_search(page: Page) -> None:
    """Winner and recommendation, changes, tests, verdicts, and settings with their reasons."""
    rows = page.rows
    board = ["0013", "0.2100", "3", "1.5", "0.014", "32", "silu"]
    assert rows[0] == board
    assert [UNITS, "64", "32"] in rows
    assert ["best", "0.2600", "0.7500"] in rows
    assert ["recommended", "0.4900", "0.5000"] in rows
    assert [ACTIVATION, "relu", "one of relu, silu, tanh", "ACT001: Reason of ACT001."] in rows
    assert ["training.batch_size", "32", "", "BAT001: Reason of BAT001."] in rows
    judged = {row[1]: row[3] for row in rows if len(row) == 5 and row[0] in ("LRN001", "ACT001")}
    assert judged.keys() == {RATE, ACTIVATION}
    assert judged[RATE] == "at the edge"


def test_the_recommendation_is_marked(tmp_path: Path, book: Rulebook) -> None:
    """The row of the recommended trial says so and has a colour of its own."""
    log, found = TrialLog(LOSS, [trial(0, 0.5, is_default=True), trial(1, 0.4)]), recommendation()

    made = Page(report_html(report_of(tmp_path / "run", log, found, book), log, found))

    assert [row[0] for row in made.rows[:2]] == ["0001", "0000 (recommended)"]
    assert [a.get("class") for t, a in made.elements if t == "tr"][1:3] == [None, "default"]


def test_the_same_search_is_the_same_page(tmp_path: Path, html: str, book: Rulebook) -> None:
    """Nothing in the page depends on when it was written; the run's path apart."""
    log, found = many_trials(), recommendation()
    made = report_of(tmp_path / "other", log, found, book)

    again = report_html(made, log, found)

    path = re.compile(r"(predict|export|resume|cite) \S+")
    assert path.sub("", again) == path.sub("", html)


def test_identifiers_are_unique(page: Page) -> None:
    """No two elements of the page share an id."""
    ids = [a["id"] for _, a in page.elements if "id" in a]

    assert len(ids) == len(set(ids))


# Hostile names.

EVIL = "<script>alert('1')</script>\"&amp;"


def hostile_search() -> tuple[TrialLog, Recommendation]:
    """A search whose column, values and reasons are markup."""
    name = f"model.encoding[{EVIL}]"
    because = (Reason(rule="EVL001", summary=f"Because {EVIL}."),)
    found = recommendation(
        **{
            name: Setting(value="a", range=Choice(values=("a", EVIL, "c")), because=because),
            f"model.embedding_dim[{EVIL}]": Setting(
                value=EVIL, range=Fixed(value=EVIL), because=because
            ),
        }
    )
    records = [
        trial(i, 0.5 - 0.1 * i, values={name: ("a", "c", EVIL)[i]}, is_default=i == 0)
        for i in range(3)
    ]
    return TrialLog(LOSS, records), found


def test_hostile_names_are_only_text(tmp_path: Path, book: Rulebook) -> None:
    """Markup in file, target, column, value, reason and step is shown and never runs."""
    log, found = hostile_search()
    run = run_with(tmp_path / "run", log, found, fingerprint(source=EVIL, target=EVIL))
    made = summarize(run, finished(), book) | {
        "run": EVIL,
        "next": [{"rule": "EVL002", "text": EVIL}],
        "verdicts": [
            {
                "rule": "EVL003",
                "hyperparameter": EVIL,
                "recommended": EVIL,
                "best": EVIL,
                "verdict": "held",
                "why": EVIL,
            }
        ],
    }

    page = Page(report_html(made, log, found))

    assert "script" not in page.tags
    assert page.wrong == []
    for tag in ("title", "h1", "code", "td", "th", "li", "text"):
        assert any(EVIL in text for text in page.texts[tag]), tag
    assert f"EVL001: Because {EVIL}." in page.texts["td"]
    assert f"EVL002: {EVIL}" in page.texts["li"]


@pytest.mark.parametrize(
    "column",
    [
        "plain",
        "_private_",
        r"price $\frac$",
        "from $ to $",
        "城市",
    ],
)
def test_any_column_can_be_plotted(column: str) -> None:
    """Dollar signs and letters beyond the Latin ones are labels like others."""
    name = f"model.encoding[{column}]"
    setting = Setting(value="a", range=Choice(values=("a", "b", "c")))
    log = TrialLog(LOSS, [trial(i, 0.5, values={name: "abc"[i]}) for i in range(3)])

    drawn = dict(plots(log, recommendation(**{name: setting})))

    assert name in Page(drawn[SLICES]).texts["text"]


# Which plots.


def titles(*records: TrialRecord) -> list[str]:
    """The plots that these trials support."""
    return [title for title, _ in plots(TrialLog(LOSS, records), recommendation())]


def test_one_trial_of_one_epoch_has_no_plots(tmp_path: Path, book: Rulebook) -> None:
    """A single point is no plot, and the page does without."""
    log = TrialLog(LOSS, [trial(0, 0.5, is_default=True, curve=({"val_loss": 0.5},))])
    found = recommendation()

    made = Page(report_html(report_of(tmp_path / "run", log, found, book), log, found))

    assert titles(*log) == []
    assert "svg" not in made.tags
    assert made.texts["h2"][0] == "Leaderboard"
    assert made.wrong == []


def test_failed_trials_alone_have_no_plots() -> None:
    """Trials without scores leave nothing to draw."""
    assert titles(trial(0), trial(1, outcome="diverged")) == []


def test_each_plot_needs_its_trials() -> None:
    """Curves need two epochs, a history two trials, slices three values."""
    flat = {"curve": ({"val_loss": 0.5},)}
    one, two = trial(0, 0.5), trial(1, 0.4, values={UNITS: 128})
    short = [trial(i, 0.5, values={UNITS: 2 ** (4 + i)}, **flat) for i in range(3)]

    assert titles(one) == [CURVES]
    assert titles(one, two) == [HISTORY, CURVES]
    assert titles(*short) == [HISTORY, SLICES]
    assert titles(*short[:2]) == [HISTORY]


def test_failures_and_gaps_do_not_stop_the_plots() -> None:
    """Failed trials, missing values of the metric and an infinite loss are left out."""
    gappy = trial(1, 0.4, values={UNITS: 128}, curve=({"val_loss": 0.4}, {"loss": 1.0}))
    lost = trial(2, outcome="diverged", score=float("inf"), values={UNITS: 256})

    assert titles(trial(0, 0.5), gappy, lost, trial(3)) == [HISTORY, CURVES, SLICES]


def test_one_bad_trial_does_not_flatten_the_rest() -> None:
    """The axis ends near the other scores when one lies a thousand times off."""
    scores = [0.5, 0.51, 0.52, 0.53, 0.54, 0.55, 0.56, 0.57, 1000.0]
    log = TrialLog(LOSS, [trial(i, s) for i, s in enumerate(scores)])

    drawn = dict(plots(log, recommendation()))[HISTORY]

    ticks = [t.replace("\N{MINUS SIGN}", "-") for t in Page(drawn).texts["text"]]
    heights = [float(t) for t in ticks if re.fullmatch(r"-?\d+\.\d+", t)]
    assert heights
    assert max(heights) < 1.0


def test_yardsticks_and_samples_are_shown_as_they_are(tmp_path: Path, book: Rulebook) -> None:
    """Models without a network have rows, the verdict a line, and a sample keeps its lines."""
    log = TrialLog(LOSS, [trial(0, 0.5, is_default=True), trial(1, 0.25)])
    found = recommendation()

    page = Page(report_html(report_of(tmp_path, log, found, book), log, found))

    assert ["mean (no network)", "0.5000", "0.2500"] in page.rows
    assert "The network holds its own." in page.texts["p"]
    assert "Gradient boosting: Only 3 rounds." in page.texts["p"]
    assert page.texts["pre"] == ["first line\nsecond <line>"]
