"""The report: one file, from the run's folder alone, honest, with every number defined."""

import html.parser
import re
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from made_run import make_run

import passline
from passline.errors import RunError
from passline.evaluate.null_test import NullTest, NullTestOfKind
from passline.evaluate.replay_choice import DEATHS
from passline.evaluate.table import load_evaluations
from passline.evaluate.verdict import verdict
from passline.openings import OPENINGS_FILE, Opening, SealedWindow, record_opening, record_result
from passline.pipeline import summary_of
from passline.report.data import FINAL_FILE, ReportData, final_rows, load_report_data
from passline.report.definitions import DEFINITIONS
from passline.report.drawings import report_figures
from passline.report.figures import pass_rate_figure
from passline.report.final_view import final_line
from passline.report.page import render_report, write_figures, write_report
from passline.report.palette import PAGE
from passline.report.svg import figure_to_png, figure_to_svg
from passline.report.tensorboard import Scalars
from passline.report.views import REASONS
from passline.runs import Run, create_run, open_run

DOCS = Path(passline.__file__).parents[2] / "docs" / "evaluation.md"
NOT_FIGURES = {"automation", "facts", "glossary", "quiet"}
"""Parts of the page that tell settings, dates and sources, not results."""
HEADINGS = re.compile(r"95% interval|Full configuration|09:30|over 240|Training and evaluation")
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(html.parser.HTMLParser):
    """Collects tags, ids and titles, and checks that elements close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.untitled_numbers = 0
        self.undefined: list[str] = []
        self.marks: list[tuple[bool, bool]] = [(False, False)]
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        self.ids += [told["id"]] if "id" in told else []
        self.references += [value for key, value in attrs if key in ("src", "href", "xlink:href")]
        if "num" in (told.get("class") or "").split() and not told.get("title"):
            self.untitled_numbers += 1
        if tag not in VOID:
            self.open.append(tag)
            told_here = any(d.hover in (told.get("title") or "") for d in DEFINITIONS.values())
            names = set((told.get("class") or "").split())
            free = bool(names & NOT_FIGURES) or tag in ("svg", "style", "title", "header", "footer")
            defined, exempt = self.marks[-1]
            self.marks.append((defined or told_here, exempt or free))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()
            self.marks.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.marks.pop()

    def handle_data(self, data):
        if re.search(r"\d", data) and self.marks[-1] == (False, False):
            self.undefined.append(data.strip())


def without_figures(run: Run) -> ReportData:
    """The run's data without what figures are drawn from, to render fast."""
    scalars = Scalars(step=np.array([]), phase=np.array([], dtype=str), values={})
    return replace(
        load_report_data(run),
        evaluations=None,
        equity=None,
        distributions={},
        scalars=scalars,
        trips=None,
    )


@pytest.fixture(scope="module")
def text(run: Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of the run as it was written to a file."""
    out = tmp_path_factory.mktemp("out") / "report.html"
    return write_report(run, load_report_data(run), out).read_text()


def test_the_report_is_one_file_that_needs_nothing_else(text):
    page = Page(text)
    assert all(reference.startswith(("#", "replays/")) for reference in page.references)
    assert not re.search(r"<script|<link|@import|url\((?!#)", text)
    assert len(page.ids) == len(set(page.ids))
    inside = [reference[1:] for reference in page.references if reference.startswith("#")]
    for target in re.findall(r"url\(#([^)]+)\)", text) + inside:
        assert target in page.ids
    assert page.untitled_numbers == 0
    assert text.count("<svg") == 10
    assert "#0102" not in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_every_number_that_is_shown_has_its_definition(text):
    """Outside settings, dates and the insides of figures, whose titles carry the definition."""
    undefined = [found for found in Page(text).undefined if not HEADINGS.search(found)]
    assert undefined == []
    bare = re.sub(r'(<td class="right">)<span class="num[^>]*>', r"\1<span>", text, count=1)
    assert len([x for x in Page(bare).undefined if not HEADINGS.search(x)]) == 1


def test_the_verdict_comes_first_with_odds_interval_and_both_n(run, text):
    data = load_report_data(run)
    ruling = verdict(data.evaluations, span_days=data.span_days)
    assert "No edge found" in text
    sentence = ruling.sentence.removeprefix("No edge found. ")
    assert sentence in text
    assert f"n = {ruling.agent.pass_rate.n:,}" in sentence
    assert "independent" in sentence
    assert "interval" in sentence
    assert text.index(sentence) < text.index("This firm forbids") < text.index("What ends")
    assert text.index("What ends") < text.index("Against the baselines") < text.index("<svg")


def test_the_report_is_the_same_from_a_copied_folder_and_twice(run, text, tmp_path):
    copy = tmp_path / run.id
    shutil.copytree(run.path, copy)
    again = open_run(copy)
    assert text == render_report(again.id, load_report_data(again))


@pytest.mark.parametrize(
    ("drift", "best_drift", "word"),
    [(150.0, 150.0, "Edge found"), (30.0, 150.0, "Undecided"), (-60.0, -60.0, "No edge found")],
)
def test_the_banner_follows_the_evaluation(tmp_path, drift, best_drift, word):
    made = make_run(tmp_path, drift=drift, best_drift=best_drift, n=96)
    data = replace(without_figures(made), evaluations=load_report_data(made).evaluations)
    text = render_report(made.id, data)
    assert f"<h2>{word}</h2>" in text
    tone = {"Edge found": "good", "Undecided": "warn", "No edge found": "bad"}[word]
    assert f'class="verdict {tone}"' in text


def test_a_run_without_evaluation_says_so_and_claims_nothing(tmp_path):
    bare = create_run(tmp_path, "bare", {"config": {"a": 1}})
    text = render_report(bare.id, load_report_data(bare))
    Page(text)
    assert "Not evaluated" in text
    assert "nothing can be said of it yet" in text
    assert "Pass rate</span></dt>" not in text
    assert "<svg" not in text


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("forbidden", "would break the firm's terms"),
        ("conditions", "only under conditions"),
        ("allowed", "allows automated trading at this stage"),
        (None, "is not known"),
    ],
)
def test_what_the_firm_says_of_automation_is_told(run, policy, says):
    data = without_figures(run)
    told = {"policy": policy, "note": ""} if policy else {}
    manifest = {**data.manifest, "rulebook": {**data.manifest["rulebook"], "automation": told}}
    text = render_report(run.id, replace(data, manifest=manifest)).replace("&#39;", "'")
    assert says in text
    assert ("would break" in text) == (policy == "forbidden")


def test_names_from_outside_cannot_inject_markup(run):
    data = without_figures(run)
    manifest = {**data.manifest, "name": "<script>alert(1)</script>", "config": {"<b>": "<i>"}}
    text = render_report(run.id, replace(data, manifest=manifest))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "<i>" not in text


def test_every_number_is_defined_in_the_docs_in_the_same_words():
    docs = DOCS.read_text()
    for definition in DEFINITIONS.values():
        row = f"| {definition.name} | {definition.text} | {definition.unit} | {definition.sample} |"
        assert row in docs, row


def test_figures_are_drawn_as_pictures_too(run, tmp_path):
    data = load_report_data(run)
    written = write_figures(data, tmp_path / "figures", is_dark=True)
    assert len(written) == len(report_figures(data, PAGE)) == 10
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


def test_svg_takes_its_colors_and_font_from_the_page():
    figure = pass_rate_figure([], PAGE)
    text = figure_to_svg(figure, "one", 'a "b" <c>')
    assert "var(--muted)" in text
    assert "DejaVu" not in text
    assert 'aria-label="a &quot;b&quot; &lt;c>"' in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert ids
    assert all(name.startswith("one-") for name in ids)
    assert figure_to_png(figure).startswith(b"\x89PNG")


def test_a_shift_between_training_and_evaluation_is_marked(run):
    pair = load_report_data(run).distributions["account"]["ep_length"]
    moved = replace(pair, train=np.full(500, 25.0), evaluation=np.full(50, 1846.0))
    text = render_report(
        run.id, replace(without_figures(run), distributions={"manage": {"ep_length": moved}})
    )
    assert moved.distance == 1.0
    assert 'far">differs' in text


def with_pages(run: Run, *names: str) -> ReportData:
    scalars = Scalars(step=np.array([]), phase=np.array([], dtype=str), values={})
    return replace(
        load_report_data(run),
        equity=None,
        distributions={},
        scalars=scalars,
        trips=None,
        replays=names,
    )


def test_deaths_lead_to_the_replay_pages_that_were_written_and_no_others(run):
    data = with_pages(run, "2022-0.html", "2022-1.html", "elsewhere-0.html")
    rows = final_rows(data).where(policy="agent")
    text = render_report(run.id, data)
    for episode in (0, 1):
        assert text.count(f'href="replays/2022-{episode}.html#bar=end"') == 1
        day = str(rows.start_day[episode].astype("datetime64[D]"))
        assert f">{day}</a>" in text
    assert "elsewhere" not in text
    assert f"passline replay {run.id} --deaths --html" in text
    assert "replays/" not in render_report(run.id, with_pages(run))


def test_the_leading_cause_of_death_stands_on_top_with_its_share(run):
    data = with_pages(run)
    agent = final_rows(data).where(policy="agent")
    counts = {reason: int((agent.done_reason == reason).sum()) for reason in DEATHS}
    worst = max(counts, key=counts.__getitem__)
    text = render_report(run.id, data)
    top = text[: text.index("What ends the account")]
    assert f"{REASONS[worst]}</span></dd>" in top
    assert f"{100 * counts[worst] / 96:.1f}%, {counts[worst]} of 96" in top


def test_a_null_test_and_a_final_window_are_told_if_the_run_has_them(run):
    kind = NullTestOfKind(
        kind="rotate", nulls=(0.1, 0.4), null_pass_rates=(0.1, 0.2), p=1 / 3, p_of_kinds=1 / 3,
        p_corrected=0.5,
    )  # fmt: skip
    found = NullTest(
        statistic="mean result", unit="allowances", actual=0.5, actual_pass_rate=0.3, kinds=(kind,),
        n_configurations=7, correction="sidak", p_reality_check=None, p_corrected=0.5,
        p_smallest=0.1, is_edge=False, sentence="No edge found by the null test.", settings={},
    )  # fmt: skip
    data = with_pages(run)
    assert "Could it be luck?" not in render_report(run.id, data)
    manifest = {**data.manifest, "slices": {"final": ["2023-01-02", "2023-06-30"]}}
    text = render_report(run.id, replace(data, null_test=found, manifest=manifest))
    assert "No edge found by the null test." in text
    assert ">0.333</span>" in text
    assert "sealed, never opened by this run" in text
    assert 'id="figure-null"' in text
    assert "corrected by Šidák&#39;s formula" in text.replace("'", "&#39;")
    alone = replace(data, null_test=found, manifest=manifest, evaluations=None)
    text = render_report(run.id, alone)
    assert "holds no agent, no evaluation and no replay" in text
    assert "Not evaluated" not in text
    assert 'id="figure-null"' in text
    assert "passline unseal" not in text


FINAL = SealedWindow(
    contracts=("ES",), data=("5d" * 32,), first=date(2023, 1, 2), last=date(2023, 6, 30)
)


@pytest.fixture
def sealed(run: Run, tmp_path: Path) -> Run:
    """The run with a final window, and another run beside it."""
    shutil.copytree(run.path, tmp_path / run.id)
    copy = open_run(tmp_path / run.id)
    text = (copy.path / "run.toml").read_text()
    (copy.path / "run.toml").write_text(text + "\n[slices]\nfinal = [2023-01-02, 2023-06-30]\n")
    return open_run(copy.path)


def opened(run: Run) -> Opening:
    return record_opening(
        run, FINAL, checkpoint="9-account", checkpoint_sha256="ab", step=9, slices=["final"]
    )


def final_section(run: Run) -> str:
    text = render_report(run.id, load_report_data(run))
    begin = text.index("<h2>The sealed final window</h2>")
    return text[begin : text.index("</section>", begin)]


def test_before_its_opening_the_page_says_that_a_window_is_sealed(sealed: Run) -> None:
    text = final_section(sealed)
    assert "2023-01-02 to 2023-06-30 were taken away before anything was computed" in text
    assert f"passline unseal {sealed.id}" in text
    assert "<table>" not in text


def test_an_opening_shows_its_own_verdict_beside_the_baselines(sealed: Run) -> None:
    """The stored episodes are another market's: the section must not repeat the run's verdict."""
    made = make_run(sealed.path.parent / "other", drift=400.0, n=96, seed=3)
    table = load_evaluations(made.path / "evaluations.npz")
    shutil.copy(made.path / "evaluations.npz", sealed.path / FINAL_FILE)
    found = verdict(table, span_days=30)
    record_result(sealed, opened(sealed), summary_of(found))
    text = final_section(sealed)
    rate = found.agent.pass_rate
    assert f"<strong>{found.word.value.capitalize()}</strong> on the final window." in text
    assert (
        found.word
        is not verdict(load_evaluations(sealed.path / "evaluations.npz"), span_days=30).word
    )
    assert f"{rate.value:.1%}" in text
    assert f"{rate.low:.1%} to {rate.high:.1%}" in text
    assert f"{rate.n_effective:,.0f}" in text
    assert all(name in text for name in ("long", "random legal"))
    assert "for the first time by any run of this folder" in text
    assert "Openings by runs in other folders are not known" in text


def test_an_opening_that_was_cut_off_counts_and_a_second_one_is_no_test(sealed: Run) -> None:
    opened(sealed)
    text = final_section(sealed)
    assert "not finished, and counts all the same" in text
    assert "on the final window." not in text
    other = create_run(sealed.path.parent, "other", {"config": {}})
    opened(other)
    opened(sealed)
    data = load_report_data(sealed)
    assert "opened 2 times by this run and once by other runs before. Only the first" in (
        final_line(data)
    )
    assert "no longer out of sample" in final_section(sealed)


def test_a_damaged_record_of_openings_is_refused(sealed: Run) -> None:
    (sealed.path / OPENINGS_FILE).write_text("not json\n")
    with pytest.raises(RunError, match=r"openings.jsonl: line 1 cannot be read"):
        load_report_data(sealed)
