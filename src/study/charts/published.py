"""Figures of the page on the published pairs: what was released, and what our trials say of it.

Every function takes a table of the stage `published` and returns a `Figure`. Where there is nothing to draw, a figure says
so in place of the picture.
"""

import textwrap

import altair as alt
import pandas as pd

from study.charts import BLACK, BLUE, GREEN, GREY, ORANGE, SKY, VERMILION, WIDTH, Figure

KINDS = {"exact": ("exact copy", BLUE), "near": ("same shot", SKY), "very_similar": ("very similar", ORANGE)}
QUANTITIES = {
    "influence": "influence of the pair",
    "memorization": "memorization of the influencer",
}
PANEL = {"width": 260, "height": 220}
TICKS = [0, 1, 3, 10, 30, 100, 300, 1000]


def released_histograms(histograms: pd.DataFrame, quantity: str) -> Figure:
    """Counts of ``quantity``, a key of `QUANTITIES`, in bins of 0.05: a panel a data set."""
    table = histograms[histograms.quantity == quantity].reset_index(drop=True)
    panels = [_bars(rows, name, quantity) for name, rows in table.groupby("data", sort=False)]
    numbers = ", ".join(f"{name} {rows['count'].sum():,}" for name, rows in table.groupby("data", sort=False))
    return Figure(
        f"released_{quantity}",
        alt.hconcat(*panels),
        table,
        f"{QUANTITIES[quantity].capitalize()} in the released lists, counted here ({numbers}); the vertical axes are "
        "logarithmic. No network was trained for this figure.",
        f"Two histograms of {quantity}, one a data set, on logarithmic axes.",
    )


def _bars(rows: pd.DataFrame, title: str, quantity: str) -> alt.Chart:
    axis = alt.Axis(values=[tick for tick in TICKS if tick <= 2 * rows["count"].max()])
    return (
        alt.Chart(rows, title=title)
        .mark_bar(stroke="white")
        .encode(
            x=alt.X("low:Q", bin="binned", title=QUANTITIES[quantity], axis=alt.Axis(tickCount=6)),
            x2="high:Q",
            y=alt.Y("count:Q", title="count (logarithmic)", scale=alt.Scale(type="symlog"), axis=axis),
            tooltip=["low:Q", "high:Q", "count:Q"],
        )
        .properties(**PANEL)
    )


def memorization_bars(bars: pd.DataFrame) -> Figure:
    """The published histograms of memorization as shares of the training set: a panel a data set."""
    table = bars.assign(share=bars["count"] / bars.groupby("data")["count"].transform("sum"))
    axis = alt.Axis(format="%", values=[0.0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5])
    y = alt.Y("share:Q", title="share (square-root axis)", scale=alt.Scale(type="sqrt"), axis=axis)
    panels = [
        alt.Chart(rows, title=name)
        .mark_bar(stroke="white", color=GREY)
        .encode(
            x=alt.X("low:Q", bin="binned", title="memorization", axis=alt.Axis(tickCount=6)),
            x2="high:Q",
            y=y,
            tooltip=[*(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("low", "high", "share")), "count:Q"],
        )
        .properties(**PANEL)
        for name, rows in table.groupby("data", sort=False)
    ]
    return Figure(
        "memorization_bars",
        alt.hconcat(*panels),
        table,
        "Cited, not run here: memorization of all training examples as the authors published it, read off the bars of their "
        "figures. CIFAR-100 from 4,000 trials, ImageNet from 2,000.",
        "Two grey histograms. CIFAR-100 is high at zero, low between and high at one; ImageNet is high at zero with a broad "
        "low hump from one half on.",
    )


def duplicates(table: pd.DataFrame) -> Figure:
    """Share of the released CIFAR-100 pairs that are listed near duplicates, by influence, with interval and null."""
    rows = table[table.pairs > 0].assign(band=_bands(table) + table.pairs.map(" ({:,})".format)).reset_index(drop=True)
    long = rows.melt(["band", "pairs"], list(KINDS), "kind", "count")
    long = long.assign(share=long["count"] / long.pairs, kind=long.kind.map({key: name for key, (name, _) in KINDS.items()}))
    x = alt.X(
        "band:N", sort=None, title="published influence (number of pairs)", axis=alt.Axis(labelAngle=0, labelFontSize=11)
    )
    y = alt.Y("share:Q", title="share listed as duplicates", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1]))
    stacks = _stacks(long, x, y)
    intervals = alt.Chart(rows).mark_rule(color=BLACK).encode(x=x, y="share_low:Q", y2="share_high:Q")
    null = alt.Chart(rows).mark_tick(color=VERMILION, thickness=3, width=60).encode(x=x, y="null:Q")
    return Figure(
        "duplicates",
        (stacks + intervals + null).properties(width=WIDTH - 60),
        rows,
        f"Which of the {rows.pairs.sum():,} released CIFAR-100 pairs ciFAIR lists as train-test duplicates, by published "
        "influence; no network was trained. Black: 95 % intervals of the whole bar (Wilson). Orange ticks, at the bottom: "
        "the most to expect if each influencer were a random example of its class.",
        "Bars that rise with influence from a few per cent to about two thirds; the ticks of the null lie at zero.",
    )


def _stacks(long: pd.DataFrame, x: alt.X, y: alt.Y) -> alt.Chart:
    names, colours = zip(*KINDS.values())
    return (
        alt.Chart(long)
        .mark_bar()
        .encode(
            x=x,
            y=y,
            color=alt.Color("kind:N", title=None, scale=alt.Scale(domain=names, range=colours), legend=_top()),
            order=alt.Order("kind:N"),
            tooltip=["band:N", "kind:N", "count:Q", alt.Tooltip("share:Q", format=".1%")],
        )
    )


def _bands(table: pd.DataFrame) -> pd.Series:
    return table.low.map("{:g}".format) + "–" + table.high.map("{:g}".format)


def _top() -> alt.Legend:
    return alt.Legend(orient="top")


def transfer(table: pd.DataFrame) -> Figure:
    """Our mean influence by band of published influence, for the released pairs and for random ones; a panel a setting.

    A table without rows gives a figure that says what to do.
    """
    if table.empty:
        return _not_run("transfer", "not run: no setting on CIFAR-100 is listed under published.settings of params.yaml")
    rows = table[table.group == "band"].reset_index(drop=True)
    panels = [_transfer_panel(_pointed(of_setting), name) for name, of_setting in rows.groupby("setting", sort=False)]
    trials = ", ".join(
        f"{of.trials.iloc[0]:,} trials of {name}, {of.pairs.sum():,} pairs"
        for name, of in rows.groupby("setting", sort=False)
    )
    return Figure(
        "transfer",
        alt.vconcat(*panels),
        rows,
        f"Mean influence by networks of our own ({trials}) over the released pairs of each band, against their mean "
        "published influence, and over random training examples of the same class with the same tests. Bars: two standard "
        "errors, which leave out whole trials. Dashed: equality. Dotted: zero.",
        "Points of the released pairs rise with published influence; those of random pairs stay at zero.",
    )


def _pointed(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a point: released and random pairs, with the ends of their error bars."""
    kinds = {"released pairs": "ours", "random pairs": "control"}
    points = [
        rows[["published", "pairs", "low", "high"]].assign(kind=kind, mean=rows[key], std_error=rows[f"{key}_se"])
        for kind, key in kinds.items()
    ]
    long = pd.concat(points, ignore_index=True)
    return long.assign(bottom=long["mean"] - 2 * long.std_error, top=long["mean"] + 2 * long.std_error)


def _transfer_panel(long: pd.DataFrame, title: str) -> alt.LayerChart:
    scale = alt.Scale(domain=["released pairs", "random pairs"], range=[GREEN, GREY])
    base = alt.Chart(long, title=title).encode(
        x=alt.X("published:Q", title="mean published influence of the band"),
        color=alt.Color("kind:N", title=None, scale=scale, legend=_top()),
    )
    points = base.mark_point(size=60).encode(
        y=alt.Y("mean:Q", title="our mean influence"),
        tooltip=[
            "kind:N",
            "pairs:Q",
            *(alt.Tooltip(f"{name}:Q", format=".4f") for name in ("published", "mean", "std_error")),
        ],
    )
    ends = pd.DataFrame({"published": [0.0, long.published.max()]})
    equal = alt.Chart(ends).mark_line(color=GREY, strokeDash=[6, 4]).encode(x="published:Q", y="published:Q")
    zero = alt.Chart(ends).mark_line(color=GREY, strokeDash=[1, 3]).encode(x="published:Q", y=alt.datum(0))
    return (equal + zero + base.mark_rule().encode(y="bottom:Q", y2="top:Q") + points).properties(width=WIDTH - 60)


TESTS = {"all": "all tests", "affected": "tests in a pair", "elsewhere": "all other tests"}


def removal(losses: pd.DataFrame, models: pd.DataFrame, paper: dict[str, dict]) -> Figure:
    """Loss of test accuracy in each arm of the stage `published_removal`, beside what the ``paper`` lost: a panel a part.

    ``losses`` and ``models`` are tables of that stage, ``paper`` the part of its summary.
    """
    long = _lost(losses, models, paper)
    panels = [_removal_panel(long[long.tests == title], title) for title in _titles(losses).values()]
    repeats = models.repeat.nunique()
    return Figure(
        "removal",
        alt.vconcat(*panels).resolve_scale(x="independent"),
        long,
        "Loss of test accuracy, in percentage points, when the training set lacks the influencers of the released pairs, or "
        f"as many or more random examples; {repeats} networks of ours in each arm, each against its partner that was "
        "trained on everything. Dots: means, with 95 % intervals over networks (Student's t). Rings: single networks. "
        "Diamonds: the paper's networks. Each panel has a scale of its own.",
        "Three panels of dots with error bars, a row a removed set: on all tests, on tests in a pair, and on the others.",
    )


def _titles(losses: pd.DataFrame) -> dict[str, str]:
    counts = losses.groupby("tests")["count"].first()
    return {key: f"{title} ({counts[key]:,})" for key, title in TESTS.items()}


def _lost(losses: pd.DataFrame, models: pd.DataFrame, paper: dict[str, dict]) -> pd.DataFrame:
    """One row a mark, in percentage points: means with the ends of their intervals, single networks, the paper's values."""
    arms = _arms(losses)
    means = losses[losses.removed > 0].rename(columns={"drop": "loss"})
    means = means[["arm", "tests", "loss", "low", "high"]].assign(kind="mean")
    single = models.melt(["arm", "repeat"], list(TESTS), "tests", "accuracy")
    whole = single[single.arm == "nothing"].set_index(["repeat", "tests"]).accuracy.rename("whole")
    single = single[single.arm != "nothing"].join(whole, on=["repeat", "tests"])
    single = single.assign(loss=single.whole - single.accuracy, kind="network")
    cited = pd.DataFrame({"tests": ["all", "affected"], "loss": [paper[key]["value"] for key in ("drop", "affected_drop")]})
    long = pd.concat([means, single, cited.assign(arm="influencers", kind="paper")], ignore_index=True)
    points = {column: 100 * long[column] for column in ("loss", "low", "high")}
    long = long.assign(**points, arm=long.arm.map(arms), tests=long.tests.map(_titles(losses)))
    return long[["tests", "arm", "kind", "repeat", "loss", "low", "high"]]


def _arms(losses: pd.DataFrame) -> dict[str, str]:
    """What each arm is called in a figure; the count stands before the influencers as it does before random examples."""
    counts = losses[losses.removed > 0].groupby("arm", sort=False).removed.first()
    return {arm: f"{count:,} influencers" if arm == "influencers" else arm for arm, count in counts.items()}


def _removal_panel(rows: pd.DataFrame, title: str) -> alt.LayerChart:
    y = alt.Y("arm:N", title=None, sort=None, axis=alt.Axis(labelLimit=140))
    x = alt.X("loss:Q", title="loss (percentage points)")
    tooltip = ["arm:N", "kind:N", *(alt.Tooltip(f"{name}:Q", format=".2f") for name in ("loss", "low", "high"))]

    def marks(kind: str) -> alt.Chart:
        return alt.Chart(rows[rows.kind == kind])

    zero = alt.Chart(pd.DataFrame({"loss": [0.0]})).mark_rule(color=GREY, strokeDash=[4, 4]).encode(x=x)
    bars = marks("mean").mark_rule(color=BLUE, strokeWidth=2).encode(x=alt.X("low:Q"), x2="high:Q", y=y)
    means = marks("mean").mark_point(color=BLUE, size=70).encode(x=x, y=y, tooltip=tooltip)
    rings = marks("network").mark_point(color=GREY, filled=False, size=35).encode(x=x, y=y, tooltip=tooltip)
    paper = marks("paper").mark_point(color=VERMILION, shape="diamond", size=90).encode(x=x, y=y, tooltip=tooltip)
    return (zero + rings + bars + means + paper).properties(title=title, width=WIDTH - 160, height=alt.Step(30))


def _not_run(name: str, reason: str) -> Figure:
    table = pd.DataFrame({"reason": [reason]})
    lines = alt.Chart(table.assign(lines=textwrap.fill(reason, 36)))  # short enough for a phone
    chart = lines.mark_text(color=GREY, fontSize=13, lineBreak="\n", baseline="top").encode(text="lines:N", y=alt.value(10))
    return Figure(
        name, chart.properties(width=WIDTH, height=80), table, f"This figure was {reason}.", f"No picture: {reason}."
    )
