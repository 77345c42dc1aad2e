"""What figures mean, in one plain sentence each, for readers who have not seen the papers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plain:
    """A metric in plain words: what a picture of it shows, and what a figure too high or too low means."""

    shows: str
    high: str
    low: str


WORDS = {
    "update_support": Plain(
        "The share of single numbers in the weights that visibly changed.",
        "Training rewrote more of the network than it should have.",
        "Training touched less of the network than it should have.",
    ),
    "update_sparsity": Plain(
        "The share of single numbers in the weights that did not visibly change.",
        "Training touched less of the network than it should have.",
        "Training rewrote more of the network than it should have.",
    ),
    "principal_angle": Plain(
        "How far the main directions of each weight matrix turned: 0° means that they stayed, 90° that they were "
        "replaced.",
        "The main directions of the weights turned further than they should have: what the base model had learned "
        "is being moved, not just refined.",
        "The main directions of the weights hardly turned: the update is weaker than this kind of training gives.",
    ),
    "spectral_shift": Plain(
        "How much the strengths (singular values) of each weight matrix changed, relative to what they were.",
        "The strengths of the weight matrices changed more than they should have.",
        "The strengths of the weight matrices changed less than they should have.",
    ),
    "stable_rank": Plain(
        "Over how many directions the update spreads: 1 is a single direction, larger is more diffuse.",
        "The update spreads over more directions than it should: it is more diffuse, as supervised fine-tuning is.",
        "The update collapsed into fewer directions than it should have.",
    ),
    "update_norm": Plain(
        "How large the whole change of a weight matrix is.",
        "The weights moved further than they should have.",
        "The weights moved less than they should have.",
    ),
    "relative_update_norm": Plain(
        "How large the whole change of a weight matrix is, compared with the matrix itself.",
        "The weights moved further than they should have.",
        "The weights moved less than they should have.",
    ),
    "hill_exponent": Plain(
        "How evenly the strongest directions of the update share it: small means that a few dominate.",
        "The strongest directions of the update are more even than they should be.",
        "A few directions dominate the update more than they should.",
    ),
    "subspace_alignment": Plain(
        "How much of the update's final directions was already there at each checkpoint: 100% is all of it.",
        "The update settled into its final directions earlier than it should have.",
        "The update had not yet found its final directions: it kept turning while it should have been settled.",
    ),
    "subspace_energy": Plain(
        "How much of the update stays inside the directions that it had found early in training.",
        "The update stays in its early directions more than it should.",
        "The update left its early directions: it does not stay in the channel that it started in.",
    ),
    "principal_energy": Plain(
        "How much of the update lies inside the main directions of the original weights.",
        "The update works on the main directions of the original weights more than it should.",
        "The update avoids the main directions of the original weights more than it should.",
    ),
    "top_energy": Plain(
        "How much of the update its strongest directions hold.",
        "The update is concentrated in fewer directions than it should be.",
        "The update is spread over more directions than it should be.",
    ),
    "update_spectrum": Plain(
        "How strong one direction of the update is, as a share of the update's size.",
        "This direction of the update is stronger than it should be.",
        "This direction of the update is weaker than it should be.",
    ),
    "spectral_share": Plain(
        "How much of the change went into the strengths of the weight matrix rather than into its directions.",
        "More of the change went into the strengths of the weights than should have.",
        "Less of the change went into the strengths of the weights than should have.",
    ),
    "principal_overlap": Plain(
        "How many of the visible changes fall on the weights that matter most to the matrix.",
        "Changes fall on the most important weights more often than they should.",
        "Changes avoid the most important weights more than they should.",
    ),
    "low_magnitude_overlap": Plain(
        "How many of the visible changes fall on the smallest weights.",
        "Changes favour small weights more than they should.",
        "Changes fall on small weights less often than they should.",
    ),
    "mask_jaccard": Plain(
        "How far this run and the reference changed the same numbers.",
        "The two runs changed the same numbers more often than they should.",
        "The two runs changed different numbers: they did not take the same path.",
    ),
    "frozen_share": Plain(
        "The share of weight matrices that never changed.",
        "More weight matrices stayed frozen than should have.",
        "Weight matrices changed that should have stayed frozen.",
    ),
    "rounding_share": Plain(
        "How much of the update the rounding of stored numbers explains: where it is large, figures describe rounding.",
        "Rounding explains too much of the update for its figures to describe the training.",
        "Rounding explains less of the update than demanded.",
    ),
    "functional_sufficiency": Plain(
        "How much of the free run's gain in a score is kept when training may only move in a few directions, learned "
        "early in the run. Random directions are the control.",
        "A few early directions suffice for this training, which they should not.",
        "A few early directions do not suffice for this training, or random ones do as well.",
    ),
    "regime": Plain(
        "How far the run is from the published profile, in decades: 1 is a factor of ten.",
        "By its geometry the run looks like another kind of training than it claims to be.",
        "By its geometry the run looks like another kind of training than it claims to be.",
    ),
}


def plain_words(metric: str, title: str, definition: str) -> Plain:
    """The words for `metric`; for one that another package declares, its own title and definition."""
    known = WORDS.get(metric)
    if known is not None:
        return known
    shows = f"{title[:1].upper()}{title[1:]}: {definition}."
    return Plain(shows, f"The {title} is larger than it should be.", f"The {title} is smaller than it should be.")
