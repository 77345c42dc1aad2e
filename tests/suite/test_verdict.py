from geomcheck.suite.verdict import Observed


def test_what_one_figure_was_held_against():
    observed = Observed(step=30, group=None, value=0.5, holds=True, reference=0.4, band=(0.2, 0.8), random=0.1)
    facts = observed.to_dict()
    assert (facts["step"], facts["value"], facts["holds"]) == (30, 0.5, True)
    assert (facts["reference"], facts["low"], facts["high"], facts["random"]) == (0.4, 0.2, 0.8, 0.1)
    bare = Observed(step=30, group=None, value=0.5, holds=True).to_dict()
    assert not {"reference", "low", "high", "random"} & bare.keys()
