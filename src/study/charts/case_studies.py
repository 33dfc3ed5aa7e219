"""Figures of the chapter on case studies: which examples are memorized, whether that is useful, and why.

Tables are those of the stages `estimate` and `removal`. Error bars reach two standard errors to each side.
"""

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from scipy.stats import binomtest

from study.charts import BLACK, BLUE, GREY, ORANGE, SKY, VERMILION, WIDTH, Figure, picture
from study.data import unit_floats
from study.pictures import Pictures

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
COUNTS = [0, *(digit * 10**power for power in range(6) for digit in (1, 3))]  # ticks of a logarithmic axis of counts
SHARES = [0.0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0]  # ticks of a square-root axis
EXPECTED = "published, as our trials would show it"
TENTHS = [tenth / 10 for tenth in range(11)]
SIDE, CELL = 44, 74  # of a drawn digit, and of the cell it stands in
LOSS = "loss of accuracy (percentage points)"
POINTS = alt.Axis(labelExpr="format(datum.value * 100, '.3~f')")  # differences of shares, in percentage points
PARTS = {"affected": "tests in a pair", "elsewhere": "all other tests", "all": "all tests"}


def memorization_histogram(
    memorization: pd.DataFrame, mem_threshold: float, name: str = "memorization_histogram", examples: str = "digits"
) -> Figure:
    """How many examples have which memorization, in bins of 0.05, on an axis that shows single ``examples``."""
    lowest = int(np.floor(min(memorization.mem.min(), 0) / 0.05))
    table = _bins(memorization.mem.dropna(), np.arange(lowest, 21) * 0.05)
    chart = (
        alt.Chart(table)
        .mark_bar()
        .encode(
            x=alt.X("low:Q", bin="binned", title="memorization (probability)", axis=alt.Axis(values=list(LEVELS))),
            x2="high:Q",
            y=alt.Y(
                "count:Q",
                title="examples (count, logarithmic)",
                scale=alt.Scale(type="symlog"),
                axis=alt.Axis(values=_ticks(table["count"].max())),
            ),
            tooltip=[*_numbers("low", "high"), "count:Q"],
        )
    )
    counts = (
        alt.Chart(table.assign(middle=(table.low + table.high) / 2))
        .mark_text(dy=-7)
        .encode(x="middle:Q", y="count:Q", text="count:Q")
    )
    limit = alt.Chart(pd.DataFrame({"x": [mem_threshold]})).mark_rule(strokeDash=[4, 4]).encode(x="x:Q")
    return Figure(
        name,
        chart + counts + limit,
        table,
        f"Most {examples} are not memorized at all, few are memorized in part, and some could not have been classified "
        f"correctly from the others. Dashed: the threshold {mem_threshold:g}.",
        "Histogram of memorization. A tall bar at zero, low bars between, and slightly higher ones towards one.",
    )


def memorization_ranked(memorization: pd.DataFrame, mem_threshold: float, shown: int = 100) -> Figure:
    """The ``shown`` most memorized examples in order, each with its standard error."""
    table = memorization.nlargest(shown, "mem").reset_index(drop=True)
    table = _with_bars(table.assign(rank=table.index + 1), "mem", "std_error")
    base = alt.Chart(table).encode(x=alt.X("rank:Q", title="rank among the training examples"))
    points = base.mark_point(size=22).encode(
        y=alt.Y("mem:Q", title="memorization (probability)"),
        tooltip=["index:Q", "label:N", *_numbers("mem", "std_error", "in_accuracy", "out_accuracy")],
    )
    bars = base.mark_rule().encode(y=alt.Y("mem_low:Q", title="memorization (probability)"), y2="mem_high:Q")
    limit = alt.Chart(pd.DataFrame({"y": [mem_threshold]})).mark_rule(strokeDash=[4, 4]).encode(y="y:Q")
    return Figure(
        "memorization_ranked",
        bars + points + limit,
        table,
        f"The {shown} most memorized digits with two standard errors to each side. Noise does not make the "
        f"curve: few digits could change sides of the dashed threshold {mem_threshold:g}.",
        "A falling curve of points with short error bars, from one at the left to nearly zero at the right.",
    )


def memorized_examples(
    memorization: pd.DataFrame, pictures: Pictures, name: str, noun: str, classes: Sequence[int] | None = None
) -> Figure:
    """For each class the examples with memorization nearest to 0, 1/4, 1/2, 3/4 and 1, if one is within 1/8.

    ``classes`` are the labels that are shown, all by default.
    """
    classes = range(len(pictures.classes)) if classes is None else classes
    table = pd.DataFrame([row for label in classes for row in _strip(memorization, pictures, label)])
    x = alt.X("level:O", title="memorization near", axis=alt.Axis(labelAngle=0, orient="top", format=".2f"))
    y = alt.Y("class:N", title="class")
    return Figure(
        name,
        _pictures(table, x, y, len(LEVELS), len(classes)),
        table.drop(columns="url"),
        f"Training {noun} with memorization near 0, 1/4, 1/2, 3/4 and 1, with their estimates; a gap where a class has none "
        "within 1/8. To the right they become odd, ambiguous or hard to recognise." + _unseen(pictures),
        f"A grid of small pictures of {noun}, one row a class. Those at the left are clear, those at the right odd.",
    )


def _unseen(pictures: Pictures) -> str:
    return "" if pictures.train is not None else " The pictures could not be had here: their places are named instead."


def _strip(memorization: pd.DataFrame, pictures: Pictures, label: int) -> list[dict]:
    frame = memorization[memorization.label == label]
    rows = []
    for level in LEVELS:
        best = frame.loc[(frame.mem - level).abs().idxmin()]
        if abs(best.mem - level) <= (LEVELS[1] - LEVELS[0]) / 2:
            text = f"{best.mem:.3f}"  # an error under each would not fit; the CSV has them
            rows.append(
                {
                    "class": pictures.classes[label],
                    "level": level,
                    "index": int(best["index"]),
                    "mem": best.mem,
                    "std_error": best.std_error,
                    "text": text,
                    "url": drawn(pictures.train, int(best["index"]), "train"),
                }
            )
    return rows


def memorized_by_class(frames: dict[str, tuple[pd.DataFrame, tuple[str, ...]]], mem_threshold: float) -> Figure:
    """Share of memorized examples in each class, with Wilson's 95 % interval, for the estimates of each data set.

    ``frames`` maps a title to a memorization table and the names of its classes.
    """
    table = pd.concat([_share_by_class(title, *frame, mem_threshold) for title, frame in frames.items()])
    base = alt.Chart(table).encode(y=alt.Y("class:N", title="class", sort=None))
    share = alt.X("share:Q", title="share of memorized examples", axis=alt.Axis(format="%"))
    points = base.mark_point(filled=True, color=BLUE).encode(x=share, tooltip=["class:N", *_numbers("share", "examples")])
    bars = base.mark_rule(color=BLUE).encode(x="share_low:Q", x2="share_high:Q")
    return Figure(
        "memorized_by_class",
        (bars + points).properties(width=WIDTH // 2 - 30).facet(alt.Facet("data:N", title=None, sort=None), columns=2)
        .resolve_scale(x="independent", y="independent"),
        table,
        f"Share of the training examples of each class with a memorization of at least {mem_threshold:g}. Bars: Wilson's "
        "95 % interval for a share of as many examples; the errors of the estimates come on top.",
        "Rows of dots with error bars, one row a class, for each data set.",
    )  # fmt: skip


def _share_by_class(title: str, memorization: pd.DataFrame, classes: tuple[str, ...], mem_threshold: float) -> pd.DataFrame:
    known = memorization[memorization.mem.notna()]
    grouped = (known.mem >= mem_threshold).groupby(known.label)
    memorized, examples = grouped.sum(), grouped.size()
    intervals = [binomtest(k, of).proportion_ci(method="wilson") for k, of in zip(memorized, examples)]
    columns = {"data": title, "class": [classes[k] for k in examples.index], "examples": examples, "memorized": memorized}
    ends = {f"share_{end}": [getattr(interval, end) for interval in intervals] for end in ("low", "high")}
    return pd.DataFrame(columns | {"share": memorized / examples} | ends)


def drawn(pictures: np.ndarray | None, index: int, split: str) -> str:
    """A picture as a `data:` address: grey ones as dark ink on white, small ones enlarged so that they stay crisp.

    Without ``pictures`` a white square with the name of the example's place.
    """
    if pictures is None:
        square = Image.new("L", (64, 64), 255)
        ImageDraw.Draw(square).multiline_text((4, 18), f"{split}\n{index}", fill=60)
        return picture(np.asarray(square) / 255)
    pixels = unit_floats(np.asarray(pictures[index]))
    return picture(pixels if pixels.ndim == 3 else 1 - pixels, zoom=max(1, 64 // len(pixels)))


def _pictures(table: pd.DataFrame, x, y, columns: int, rows: int):
    base = alt.Chart(table).encode(x=x, y=y)
    images = base.mark_image(width=SIDE, height=SIDE, yOffset=-7).encode(url="url:N", tooltip=["index:Q", "text:N"])
    texts = base.mark_text(dy=SIDE / 2 + 3, fontSize=10.5).encode(text="text:N")
    return (images + texts).properties(width=max(columns, 1) * CELL, height=max(rows, 1) * (CELL - 8))


def removal_curve(curve: pd.DataFrame, name: str = "removal_curve") -> Figure:
    """Accuracy without all examples above each threshold, and without as many random ones; what remains, underneath."""
    table = _matched(curve)
    x = alt.X("threshold:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(values=TENTHS))
    color = alt.Color(
        "kind:N",
        title="removed",
        legend=alt.Legend(orient="top", symbolOpacity=1),
        scale=alt.Scale(domain=["memorized", "random"], range=[VERMILION, BLUE]),
    )
    base = alt.Chart(table).encode(x=x, color=color)
    tooltip = ["kind:N", "threshold:Q", "removed:Q", *_numbers("accuracy", "std", "std_error")]
    y = alt.Y("low:Q", title="test accuracy", axis=alt.Axis(format=".1%"), scale=alt.Scale(zero=False))
    band = base.mark_area(opacity=0.2).encode(y=y, y2="high:Q")
    line = base.mark_line(point=True).encode(y="accuracy:Q", tooltip=tooltip)
    everything = curve[(curve.kind == "random") & (curve.removed == 0)]
    whole = alt.Chart(everything).mark_rule(strokeDash=[4, 4]).encode(y="accuracy:Q")
    remaining = (
        alt.Chart(table[table.kind == "memorized"])
        .mark_line(point={"color": GREY}, color=GREY)
        .encode(
            x=alt.X(
                "threshold:Q",
                title="memorization threshold: everything at or above it is removed",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(values=TENTHS),
            ),
            y=alt.Y(
                "remaining:Q",
                title="remaining",
                axis=alt.Axis(format="%", tickCount=3),
                scale=alt.Scale(domain=[table.remaining.min(), 1], nice=True),
            ),
            tooltip=["threshold:Q", "removed:Q", alt.Tooltip("remaining:Q", format=".1%")],
        )
    )
    chart = alt.vconcat((band + whole + line).properties(height=260), remaining.properties(height=80))
    return Figure(
        name,
        chart,
        table.drop(columns=["low", "high"]),
        "Accuracy of fresh models after removing all examples at or above a threshold (memorized), or as many random ones. "
        "Bands: one standard deviation over models. Dashed: nothing removed. Below: share of the training set that remains.",
        "Two curves of test accuracy against the threshold. The one without memorized examples falls to the left, the one "
        "without random examples stays nearly flat.",
    )


def _matched(curve: pd.DataFrame) -> pd.DataFrame:
    """The rows of memorized removal, and those of random removal of the same size under the same threshold."""
    memorized = curve[curve.kind == "memorized"]
    random = curve[curve.kind == "random"].drop(columns="threshold").merge(memorized[["removed", "threshold"]], on="removed")
    table = pd.concat([memorized, random], ignore_index=True)
    return table.assign(low=table.accuracy - table["std"], high=table.accuracy + table["std"])


def worth_in_random_examples(curve: pd.DataFrame, influencers: dict, name: str = "worth_in_random_examples") -> Figure:
    """Drop in accuracy against the number of removed examples: memorized, random, and the influencers as one point."""
    point = {
        "kind": "influencers",
        "removed": influencers["count"],
        "drop": influencers["drop"]["value"],
        "drop_std_error": influencers["drop"]["std_error"],
    }
    columns = ["kind", "threshold", "removed", "drop", "drop_std_error"]
    table = _with_bars(pd.concat([curve[columns], pd.DataFrame([point])], ignore_index=True), "drop", "drop_std_error")
    scale = alt.Scale(domain=["memorized", "influencers", "random"], range=[VERMILION, ORANGE, BLUE])
    base = alt.Chart(table).encode(
        x=alt.X("removed:Q", title="training examples removed (count, square-root axis)", scale=alt.Scale(type="sqrt")),
        color=alt.Color("kind:N", title="removed", scale=scale),
    )
    y = alt.Y("drop:Q", title=LOSS, axis=POINTS)
    lines = base.mark_line().encode(y=y)
    points = base.mark_point(size=50).encode(y=y, tooltip=["kind:N", "removed:Q", *_numbers("drop", "drop_std_error")])
    bars = base.mark_rule().encode(y=alt.Y("drop_low:Q", title=LOSS), y2="drop_high:Q")
    level = alt.Chart(pd.DataFrame([point])).mark_rule(strokeDash=[4, 4]).encode(y="drop:Q")
    return Figure(
        name,
        level + bars + lines + points,
        table,
        "Loss of accuracy against the number of removed examples. Where the dashed line, the loss without the influencers, "
        "meets the random curve stands the number of random examples that are worth as much. Bars: two standard errors over "
        "models.",
        "A steep curve for memorized examples, a point for influencers near it, and a slowly rising curve for random ones.",
    )


def influence_histogram(pairs: pd.DataFrame, null: pd.DataFrame, infl_threshold: float, floor: float) -> Figure:
    """Size of influence among pairs of one class with a memorized example: positive, negative, and under the null."""
    edges = np.arange(round(floor / 0.05), 21) * 0.05
    sides = {
        "positive": pairs.infl[pairs.infl > 0],
        "negative, mirrored": -pairs.infl[pairs.infl < 0],
        "either sign, rows permuted": null.infl.abs(),
    }
    table = pd.concat([_bins(values, edges).assign(side=side) for side, values in sides.items()], ignore_index=True)
    panels = [
        _influence_panel(table[table.side == side], side, colour, table["count"].max(), infl_threshold)
        for side, colour in zip(sides, (BLUE, ORANGE, GREY))
    ]
    return Figure(
        "influence_histogram",
        alt.vconcat(*panels, spacing=8).resolve_scale(x="shared"),
        table,
        f"Influence of memorized examples on tests of their class, from {floor:g} up. Pairs right of the dashed line in "
        "the first panel are selected. Chance would fill the other two as much.",
        "Three histograms below one another. The first has a long right tail, the second ends early, the third is empty or "
        "nearly so.",
    )


def _influence_panel(table: pd.DataFrame, title: str, colour: str, highest: int, infl_threshold: float):
    bars = (
        alt.Chart(table)
        .mark_bar(color=colour)
        .encode(
            x=alt.X(
                "low:Q",
                bin="binned",
                title="size of influence (probability)",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(values=TENTHS),
            ),
            x2="high:Q",
            y=alt.Y(
                "count:Q",
                title="pairs (log)",
                scale=alt.Scale(type="symlog", domain=[0, max(highest, 1)]),
                axis=alt.Axis(values=_ticks(highest)),
            ),
            tooltip=["side:N", *_numbers("low", "high"), "count:Q"],
        )
    )
    limit = alt.Chart(pd.DataFrame({"x": [infl_threshold]})).mark_rule(strokeDash=[4, 4]).encode(x="x:Q")
    return (bars + limit).properties(height=110, title=title)


def removal_of_influencers(groups: pd.DataFrame, name: str = "removal_of_influencers") -> Figure:
    """Drop in accuracy on tests in a pair, on all others and on all, for every group of removed examples."""
    rows = groups[groups.removed > 0]
    arm = rows.arm + " (" + rows.removed.astype(str) + ")"
    table = _with_bars(rows.assign(tests=rows.tests.map(PARTS), arm=arm), "drop", "drop_std_error")
    base = alt.Chart(table).encode(
        y=alt.Y("arm:N", title="removed (count)", sort=None, axis=alt.Axis(labelLimit=220)),
        yOffset=alt.YOffset("tests:N", sort=list(PARTS.values())),
        color=alt.Color(
            "tests:N", title="accuracy on", sort=list(PARTS.values()), scale=alt.Scale(range=[VERMILION, BLUE, GREY])
        ),
    )
    x = alt.X("drop:Q", title=LOSS, axis=POINTS)
    tooltip = ["arm:N", "tests:N", *_numbers("accuracy", "drop", "drop_std_error")]
    points = base.mark_point(size=50).encode(x=x, tooltip=tooltip)
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("drop_low:Q", title=LOSS), x2="drop_high:Q")
    zero = alt.Chart(pd.DataFrame({"x": [0]})).mark_rule(strokeDash=[4, 4]).encode(x="x:Q")
    return Figure(
        name,
        (zero + bars + points).properties(height=alt.Step(18), width=WIDTH - 140),
        table,
        "What fresh models lose without the influencers, without other memorized examples, and without as many random ones. "
        "Bars: two standard errors over models.",
        "Dots with error bars, a group for each removed set. Those for the influencers and tests in a pair lie far right.",
    )


def predicted_loss(removal_tests: pd.DataFrame, chosen: pd.DataFrame) -> Figure:
    """For each test in a pair: the sum of its influences, and what it lost when all influencers were removed."""
    sums = chosen.groupby("test").infl.agg(["sum", "size"]).reset_index()
    table = _with_bars(removal_tests.merge(sums, on="test"), "drop", "std_error")
    x = alt.X("sum:Q", title="sum of the influences of its pairs", scale=alt.Scale(domain=[-0.1, 1]))
    base = alt.Chart(table).encode(x=x)
    y = alt.Y("drop:Q", title="loss of accuracy measured", scale=alt.Scale(domain=[-0.1, 1]))
    points = base.mark_point(size=50).encode(
        y=y,
        color=alt.Color("size:N", title="influencers"),
        tooltip=["test:Q", *_numbers("sum", "drop", "std_error", "with_all", "without")],
    )
    bars = base.mark_rule().encode(y=alt.Y("drop_low:Q", title="loss of accuracy measured"), y2="drop_high:Q")
    ends = pd.DataFrame({"sum": [0, 1], "drop": [0, 1]})
    line = alt.Chart(ends).mark_line(color=GREY, strokeDash=[4, 4], strokeWidth=1).encode(x="sum:Q", y="drop:Q")
    return Figure(
        "predicted_loss",
        (line + bars + points).properties(width=380, height=380),
        table,
        "Each test in a pair: the influences that were estimated in subsets, added up, against what fresh models trained on "
        "the whole set lose when the influencers are gone. Dashed: equality. Bars: two standard errors over models.",
        "Scatter plot of measured loss against predicted loss around the diagonal.",
    )


def pair_gallery(
    chosen: pd.DataFrame,
    pictures: Pictures,
    count: int,
    seed: int,
    name: str = "pair_gallery",
    influencers: int = 9,
    beside: int = 3,
) -> Figure:
    """``count`` tests in pairs, evenly over the ranking of their strongest pair: test, influencers, random classmates.

    Of more than ``influencers`` influencers the strongest are shown.
    """
    ranked = chosen.test.drop_duplicates().to_numpy()
    tests = ranked[np.unique(np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int))]
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    cells = [cell for test in tests for cell in _gallery_row(chosen, pictures, test, influencers, beside, rng)]
    table = pd.DataFrame(cells, columns=["test", "column", "index", "text", "url"])
    columns = list(dict.fromkeys(sorted(table.column, key=_gallery_order)))
    x = alt.X("column:N", title=None, sort=columns, axis=alt.Axis(labelAngle=0, orient="top", labelLimit=CELL))
    y = alt.Y("test:N", title="test example", sort=None)
    return Figure(
        name,
        _pictures(table, x, y, len(columns), len(tests)),
        table.drop(columns="url"),
        "Tests in pairs, from the strongest influence to the weakest selected: the test example, its influencers with their "
        "influence and, in brackets, memorization, and random training examples of the same class." + _unseen(pictures),
        "Rows of small pictures. In each row the second picture resembles the first more than the others do.",
    )


def _gallery_row(
    chosen: pd.DataFrame, pictures: Pictures, test: int, influencers: int, beside: int, rng: np.random.Generator
) -> list[dict]:
    pairs = chosen[chosen.test == test]
    label = pictures.labels[pairs.train.iloc[0]]  # pairs are of one class
    cells = [_cell(test, "test", test, f"class {pictures.classes[label]}", drawn(pictures.test, test, "test"))]
    for number, pair in enumerate(pairs.head(influencers).itertuples(), 1):
        text = f"{pair.infl:.2f} ({pair.mem:.2f})"
        cells.append(_cell(test, f"influencer {number}", pair.train, text, drawn(pictures.train, pair.train, "train")))
    others = np.setdiff1d(np.flatnonzero(pictures.labels == label), pairs.train)
    for number, index in enumerate(rng.choice(others, size=beside, replace=False), 1):
        cells.append(_cell(test, f"random {number}", index, "", drawn(pictures.train, index, "train")))
    return cells


def _cell(test: int, column: str, index: int, text: str, url: str) -> dict:
    return {"test": str(test), "column": column, "index": int(index), "text": text, "url": url}


def _gallery_order(column: str) -> tuple:
    kind, _, number = column.partition(" ")
    return ("test", "influencer", "random").index(kind), int(number or 0)


def file_positions(positions: pd.DataFrame) -> Figure:
    """Places in scikit-learn's file of the two pictures of each pair, over those of random pictures of the class.

    ``positions`` has columns kind (pair or random), train, test (places in the file) and label.
    """
    limits = alt.Scale(domain=[0, 1800])
    chart = (
        alt.Chart(positions)
        .mark_point(filled=True)
        .encode(
            x=alt.X("train:Q", title="place of the training picture in the file", scale=limits),
            y=alt.Y("test:Q", title="place of the test picture", scale=limits),
            color=alt.Color("kind:N", title=None, scale=alt.Scale(domain=["pair", "random"], range=[VERMILION, "#c8c8c8"])),
            size=alt.Size("kind:N", legend=None, scale=alt.Scale(domain=["pair", "random"], range=[60, 12])),
            order=alt.Order("kind:N", sort="descending"),
            tooltip=["kind:N", "train:Q", "test:Q", "label:N"],
        )
    )
    return Figure(
        "file_positions",
        chart.properties(width=380, height=380),
        positions,
        "Where the pictures of high-influence pairs stand in the file of digits, against random pictures of the same class. "
        "Near the diagonal both were probably written by the same hand.",
        "Scatter plot: grey dots spread evenly in vertical stripes, many coloured dots lie on the diagonal.",
    )


def nearest_neighbour_check(exact: np.ndarray, estimated: pd.DataFrame, networks: pd.DataFrame) -> Figure:
    """Left: estimates for one nearest neighbour against the closed form. Right: networks against that closed form."""
    table = _with_bars(estimated[["index", "label", "mem", "std_error"]], "mem", "std_error")
    table = table.assign(exact=exact, networks=networks.mem.to_numpy())
    unit = alt.Scale(domain=[-0.05, 1.05], nice=False)
    x = alt.X("exact:Q", title="nearest neighbour, exact", scale=unit)
    base = alt.Chart(table).encode(x=x, tooltip=["index:Q", "label:N", *_numbers("exact", "mem", "networks")])
    y = {"title": "nearest neighbour, estimated", "scale": unit}
    bars = base.mark_rule().encode(y=alt.Y("mem_low:Q", **y), y2="mem_high:Q")
    left = bars + base.mark_point(size=14).encode(y=alt.Y("mem:Q", **y))
    right = base.mark_point(size=14, color=VERMILION).encode(y=alt.Y("networks:Q", title="networks, estimated", scale=unit))
    size = {"width": 270, "height": 270}
    return Figure(
        "nearest_neighbour_check",
        (left.properties(**size) | right.properties(**size)),
        table,
        "Memorization by the nearest-neighbour rule. Left: the same estimator against the closed form; bars reach two "
        "standard errors. Right: what networks memorize, against what the nearest-neighbour rule must.",
        "Two scatter plots. Left: points on the diagonal. Right: a loose positive relation.",
    )


def influence_ranked(pairs: pd.DataFrame, infl_threshold: float, published: int, floor: float, shown: int = 300) -> Figure:
    """The strongest pairs of either sign in order, each with its standard error, beside the ``published`` number of them.

    ``pairs`` are same-class pairs with a memorized example, complete from an absolute influence of ``floor`` on.
    """
    strong = pairs.assign(size=pairs.infl.abs()).query("size >= @floor")
    sides = {"positive": strong[strong.infl > 0], "negative, mirrored": strong[strong.infl < 0]}
    table = pd.concat([_ranked(side, shown).assign(sign=name) for name, side in sides.items()], ignore_index=True)
    base = alt.Chart(_with_bars(table, "size", "std_error")).encode(
        x=alt.X(
            "rank:Q",
            title="rank among the pairs of its sign (logarithmic)",
            scale=alt.Scale(type="log", domain=[0.8, shown], nice=False),
            axis=alt.Axis(values=COUNTS[1:]),
        ),
        color=alt.Color(
            "sign:N",
            title="influence",
            scale=alt.Scale(domain=list(sides), range=[BLUE, ORANGE]),
            legend=alt.Legend(orient="top", symbolOpacity=1),
        ),
    )
    y = alt.Y("size:Q", title="size of influence (probability)")
    points = base.mark_point(size=16).encode(y=y, tooltip=["train:Q", "test:Q", *_numbers("infl", "std_error", "mem")])
    bars = base.mark_rule(opacity=0.3).encode(
        y=alt.Y("size_low:Q", title="size of influence (probability)"), y2="size_high:Q"
    )
    level = alt.Chart(pd.DataFrame({"y": [infl_threshold]})).mark_rule(strokeDash=[4, 4]).encode(y="y:Q")
    count = alt.Chart(pd.DataFrame({"x": [published]})).mark_rule(strokeDash=[4, 4], color=BLACK).encode(x="x:Q")
    return Figure(
        "influence_ranked",
        level + count + bars + points,
        table[["sign", "rank", "train", "test", "infl", "std_error", "mem"]],
        f"The strongest influences of memorized examples on tests of their class, at most {shown} of each sign, with two "
        f"standard errors to each side. What lies above the level line, at {infl_threshold:g}, is selected; the upright "
        f"line stands at the {published} pairs that the talk selects. Chance alone would make the two curves equal.",
        "Two falling curves of points with error bars; the one of positive influences lies above the one of negative ones.",
    )


def _ranked(pairs: pd.DataFrame, shown: int) -> pd.DataFrame:
    strongest = pairs.sort_values(["size", "train", "test"], ascending=[False, True, True]).head(shown)
    return strongest.assign(rank=np.arange(1, len(strongest) + 1))


def as_measured(published: np.ndarray, memorization: pd.DataFrame, seed: int, repeats: int = 20) -> np.ndarray:
    """Memorization estimates, float ``(repeats * n,)``, that our trials would give if it were distributed as ``published``.

    ``published (k,)`` are counts in equal bins of [0, 1], inside which memorization is taken as uniform. Each example of
    ``memorization`` lends its numbers of trials with and without it; models are as often right on what they were trained on
    as ours are on average. Examples without an estimate take no part. Drawn from ``seed``.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    frame = memorization.dropna(subset="mem")
    n_in, n_out = frame.n_in.to_numpy(), frame.n_out.to_numpy()
    right = (frame.in_accuracy * n_in).sum() / n_in.sum()
    bins = rng.choice(len(published), p=published / published.sum(), size=(repeats, len(frame)))
    true = (bins + rng.random(bins.shape)) / len(published)
    inside, outside = rng.binomial(n_in, right, bins.shape), rng.binomial(n_out, np.clip(right - true, 0, 1))
    return (inside / n_in - outside / n_out).ravel()


def equal_bins(values: np.ndarray, k: int) -> np.ndarray:
    """Shares of ``values`` in ``k`` equal bins of [0, 1]; what lies outside counts in the nearest one."""
    return np.histogram(np.clip(values, 0, 1), np.linspace(0, 1, k + 1))[0] / len(values)


def published_histogram(memorization: pd.DataFrame, published: np.ndarray, seed: int, null_std: float) -> Figure:
    """Our memorization beside the published counts in ``k`` equal bins, as they are and as our trials would show them.

    Below, the mean standard error of our estimates in each bin, and ``null_std``, the spread of estimates that are noise.
    """
    frame, k = memorization.dropna(subset="mem"), len(published)
    expected = equal_bins(as_measured(published, memorization, seed), k)
    shares = {"ours": equal_bins(frame.mem, k), "published": published / published.sum(), EXPECTED: expected}
    edges = {"low": np.arange(k) / k, "high": np.arange(1, k + 1) / k}
    errors = frame.std_error.groupby(np.clip((frame.mem * k).astype(int), 0, k - 1)).mean().reindex(range(k))
    table = pd.concat([pd.DataFrame({"source": name, **edges, "share": share}) for name, share in shares.items()])
    table = table.assign(std_error=np.where(table.source == "ours", errors.loc[table.index], np.nan)).reset_index(drop=True)
    chart = alt.vconcat(_shares(table), _noise(table[table.source == "ours"], null_std)).resolve_scale(x="shared")
    return Figure(
        "published_histogram",
        chart,
        table,
        "Memorization on CIFAR-100. Bars: our estimates. Black: the published histogram. Dashed: the published histogram as "
        "it would look if it were measured with our number of trials. Only where bars and dashed line part do the learners "
        "differ. Below: standard errors of our estimates; the dashed level is the spread of estimates that are nothing but "
        "noise, from permuted rows.",
        "Histogram with a tall first bar, low bars in the middle and a higher one at the right end, two step lines over it. "
        "Below it, points that are highest in the middle.",
    )


def _shares(table: pd.DataFrame) -> alt.LayerChart:
    y = alt.Y(
        "share:Q", title="share of the examples", scale=alt.Scale(type="sqrt"), axis=alt.Axis(format="%", values=SHARES)
    )
    x = alt.X("low:Q", bin="binned", title=None, axis=alt.Axis(values=TENTHS))
    tooltip = ["source:N", *_numbers("low", "high", "share", "std_error")]
    names = ["ours", "published", EXPECTED]
    color = alt.Color(
        "source:N", title=None, scale=alt.Scale(domain=names, range=[SKY, BLACK, VERMILION]), legend=alt.Legend(orient="top")
    )
    ours = alt.Chart(table[table.source == "ours"]).mark_bar().encode(x=x, x2="high:Q", y=y, color=color, tooltip=tooltip)
    last = table[table.high == table.high.max()].assign(low=1.0)  # a step line ends where its last bin does
    steps = alt.Chart(pd.concat([table, last])[lambda rows: rows.source != "ours"]).encode(x="low:Q", y=y, color=color)
    dash = alt.StrokeDash("source:N", scale=alt.Scale(domain=names[1:], range=[[1, 0], [5, 4]]), legend=None)
    return (ours + steps.mark_line(interpolate="step-after").encode(strokeDash=dash)).properties(height=250)


def _noise(table: pd.DataFrame, null_std: float) -> alt.LayerChart:
    table = table.assign(middle=(table.low + table.high) / 2)
    y = alt.Y("std_error:Q", title="standard error", scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=4))
    unit = {"scale": alt.Scale(domain=[0, 1]), "axis": alt.Axis(values=TENTHS)}
    x = alt.X("middle:Q", title="memorization (probability)", **unit)
    points = alt.Chart(table).mark_point().encode(x=x, y=y, tooltip=_numbers("low", "high", "std_error"))
    level = alt.Chart(pd.DataFrame({"std_error": [null_std]})).mark_rule(strokeDash=[4, 4]).encode(y=y)
    name = level.mark_text(align="right", baseline="bottom", dy=-3).encode(x=alt.datum(1), text=alt.datum("noise alone"))
    return (level + name + points).properties(height=90)


def _ticks(highest: int) -> list[int]:
    return [tick for tick in COUNTS if tick <= max(highest, 1)]


def _bins(values: pd.Series, edges: np.ndarray) -> pd.DataFrame:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return pd.DataFrame({"low": edges[:-1].round(4), "high": edges[1:].round(4), "count": counts})


def _with_bars(table: pd.DataFrame, value: str, error: str) -> pd.DataFrame:
    reach = 2 * table[error]
    return table.assign(**{f"{value}_low": table[value] - reach, f"{value}_high": table[value] + reach})


def _numbers(*names: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{name}:Q", format=".4f") for name in names]
