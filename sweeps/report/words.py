"""Whether to believe the winner, in words: the answer first, then each piece of evidence with what it means."""

from __future__ import annotations

from typing import Final

from results import digits
from results.leaderboard import LEGACY_LABEL, format_value, shown_unit
from results.validity import Assessment, Verdict
from sweeps.commands.results import describe
from sweeps.evidence import Judgement
from sweeps.report.alternatives import sentence
from sweeps.report.gather import Gathered

TONES: Final = {"survives": "good", "loses money": "bad", "n/a": "muted"}
VERDICT_TONES: Final = {
    "survives": "good",
    "survives, but": "warn",
    "luck": "warn",
    "overfit": "warn",
    "loses money": "bad",
}

MEANINGS: Final = {
    "verdict": "The first rule that holds decides; every threshold is fixed beforehand.",
    "looks": "Every configuration tried on these data counts, in any study of the folder. Looks that resemble each other count as fewer.",
    "Sharpe": "Where the winner's Sharpe ratio lies with 95 % confidence, its having been chosen not considered.",
    "against": "How often luck would beat this simple thing by as much, paid for the choice among the trials; up to 0.05 counts as beaten.",
    "overfitting": "0 is good; at 0.5 choosing the best of these trials is no better than a coin.",
    "folds": "Whether the windows agree about which trials are better. No threshold: it informs.",
    "winner": "On an edge, better settings may lie further out. On a spike, small changes lose most of the lead: a sign of luck.",
    "holdout": "Days at the end that no search has seen: the only figure here that nobody chose.",
}
BANNERS: Final = {
    "legacy": (
        f"{LEGACY_LABEL}.",
        "These figures were made under the legacy execution rules, which look ahead. They reproduce published numbers, compare with "
        "nothing else, and can be promoted to nothing.",
    ),
    "imported": (
        "UNVERIFIED: taken over from somebody's records.",
        "Nothing on this page was evaluated here: the figures are what a file says. There is no verdict, and nothing to verify.",
    ),
}


def answer(found: Judgement) -> tuple[str, str, str]:
    """Returns whether the winner can be believed: a word for a badge, its tone, and a paragraph."""
    judged = found.assessment
    if found.board.empty:
        return "n/a", "muted", "That cannot be said: no trial was completed, so there is no winner."
    if not found.has_winner:
        return "n/a", "muted", "That cannot be said: no trial meets the constraints, so there is no winner."
    if judged is None and found.reference is not None:
        return _against_no_model(found, found.reference.better)
    if judged is None:
        why = found.elsewhere or f"no daily returns were kept of {_best(found)}"
        words = f"That cannot be said: {why}, and without them luck cannot be told from skill."
        return "n/a", "muted", words
    return judged.verdict.code, TONES.get(judged.verdict.code, "warn"), _answer(judged.verdict, judged, _best(found))


def winner(found: Judgement) -> int | None:
    """Returns the trial that leads, None where none is completed or none meets the constraints."""
    return None if found.board.empty or not found.has_winner else int(found.board["trial"].iloc[0])


def _best(found: Judgement) -> str:
    return f"trial {winner(found)} ({_score(found)})"


def _score(found: Judgement) -> str:
    metric = found.board.attrs["metric"]
    return f"{metric} {format_value(found.board[metric].iloc[0], found.board.attrs['units'].get(metric))}"


def _against_no_model(found: Judgement, better: bool) -> tuple[str, str, str]:
    best, looks = sentence(_best(found)), f"{found.looks.trials:,} looks at these data"
    rest = "Whether better forecasts earn anything is another question."
    if better:
        words = f"As forecasts go, yes. {best} forecasts better than no model at all, also when all {looks} are paid for. {rest}"
        return "better than no model", "good", words
    words = f"No. {best} is not shown to forecast better than no model at all, once all {looks} are paid for. {rest}"
    return "not shown to be better than no model", "warn", words


def _answer(verdict: Verdict, judged: Assessment, best: str) -> str:
    looks = f"{judged.evidence.looks:,} looks" if judged.evidence.looks else "this many looks"
    head, rest = sentence(best), verdict.words.partition(": ")[2]
    match verdict.code:
        case "survives":
            return (
                f"As far as these days can say, yes. {head} stands up to every test made here: {looks} at the data do not explain its "
                "result, and it beats doing something simple. That is about these days; about others only the holdout can speak."
            )
        case "survives, but":
            unbeaten = verdict.words.partition("not shown to beat ")[2].partition(";")[0]
            return (
                f"Only in part. {looks} at the data do not explain the profit of {best}, but it is not shown to beat "
                f"{unbeaten}: something simpler may have done as well in these days."
            )
        case "luck":
            return (
                f"No. With {looks} at the same data, luck alone gives a result like that of {best} too often to tell the two apart. "
                "It may be skill all the same; these days cannot show it."
            )
        case "overfit":
            return f"No. Whoever picks the best of these trials on one half of the days mostly picks what does badly on the other: {rest}."
        case "loses money":
            return f"No. Even {best}, the best of all, loses money in the very days it was chosen on: {rest}."
        case "too little evidence":
            return f"That cannot be said: there is too little evidence about {best}, only {rest}."
    return f"That cannot be said of {best}: there is no deflated Sharpe ratio."


def evidence(found: Judgement) -> list[tuple[str, str, str]]:
    """Returns each piece of evidence as the leaderboard says it: name, words, meaning."""
    return [(name, str(words), MEANINGS.get(name, "")) for name, words in describe(found)]


def key_figures(found: Judgement) -> list[tuple[str, str, str]]:
    """Returns the figures a reader looks for first: label, value, a few words."""
    judged, rows = found.assessment, list[tuple[str, str, str]]()
    if winner(found) is not None:
        rows.append(("winner", f"trial {winner(found)}", _score(found)))
    if judged is not None and judged.deflation is not None:
        rows.append(("DSR", digits.probability(float(judged.deflation.dsr[judged.winner])), f"over {judged.deflation.looks:,} looks"))
        interval = judged.intervals["sharpe"]
        rows.append(("Sharpe, 95 %", f"{interval.low[0]:.2f} to {interval.high[0]:.2f}", "annualised, of daily returns"))
    elif judged is not None:
        rows.append(("DSR", "n/a", f"only {judged.evidence.periods} days"))
    if found.reference is not None:
        rows.append(("DM p", digits.p_value(found.reference.adjusted), f"times {found.reference.looks:,} looks"))
    if found.has_winner and found.study is not None:
        pbo = found.study.overfitting
        short = found.study.no_choice or f"only {found.study.evidence.periods} days"
        rows.append(("PBO", "n/a" if pbo is None else digits.share(pbo.pbo), short if pbo is None else "a coin gives 0.5"))
    if judged is not None and judged.superiority:
        name, p = max(((n, float(r.trial_p_values[judged.winner])) for n, r in judged.superiority.items()), key=lambda pair: pair[1])
        rows.append(("SPA p", digits.p_value(p), f"against {name}, the hardest to beat"))
    return [*rows, ("holdout", *holdout(found))]


def holdout(found: Judgement) -> tuple[str, str]:
    """Returns what the holdout says, and a few words."""
    if found.no_holdout:
        return "none", found.no_holdout
    if found.holdout:
        trial, value = found.holdout[-1]
        text = f"{value:+.2%}" if found.told.name == "total_return" else format_value(value, shown_unit(found.told))
        return text, f"{found.told.name} of trial {trial}, opened {found.looks.openings}×"
    return (
        ("sealed", "no search has seen it") if not found.looks.openings else ("opened", f"{found.looks.openings}×; no result of this study")
    )


def contradicted(found: Judgement) -> str:
    """Returns a sentence where the holdout lost what the search won; "" elsewhere."""
    if not found.holdout or found.told.name != "total_return":
        return ""
    trial, value = found.holdout[-1]
    rows = found.board[found.board["trial"] == trial]
    before = float(rows["total_return"].iloc[0]) if len(rows) and "total_return" in rows else float("nan")
    if value <= 0.0 < before:
        return f"The search's {before:+.2%} is not confirmed: the holdout lost {-value:.2%}."
    return ""


def standing(g: Gathered) -> str:
    """Returns how a study stands, in a line."""
    counts = g.counts
    parts = [f"{counts['completed']:,} completed", f"{counts['stopped']:,} stopped early", f"{counts['failed']:,} failed"]
    done = ", ".join(part for part in parts if not part.startswith("0 ")) or "nothing has a result yet"
    how = {"finished": "finished", "running": "still running", "killed": "interrupted"}.get(g.state, g.state)
    return f"{done}; {how}" + (f" ({g.ended_by})" if g.ended_by else "")
