"""What people write by mistake in their first suites: where the message points, and what it says."""

from __future__ import annotations

import codecs
from collections import Counter
from pathlib import Path

import pytest

from geomcheck.diagnostics import load_metrics
from geomcheck.errors import SuiteError
from geomcheck.suite import load_suite
from geomcheck.suite.language.ids import is_slip
from geomcheck.suite.language.names import metric_hint

FILES = [
    (
        "geomcheck: 1\nexpect:\n  - id: a\n  metric: stable_rank\n  above: 3\n",
        "4:3: `metric` stands beside the `-` of `- id: a` in line 3; to belong to it, it ",
    ),
    (
        "geomcheck: 1\nexpect:\n- id: a\nmetric: stable_rank\nabove: 3\n",
        "3:3: expectation `a` needs `metric` (or `regime` or `trains`)",
        "4:1: unknown key `metric` in the suite; it belongs to an expectation: indent it ",
        "5:1: unknown key `above` in the suite; it belongs to an expectation: indent it b",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n\tmetric: stable_rank\n\tabove: 3\n",
        "4:1: the line is indented by a tab; YAML takes spaces alone: replace it by space",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric:\tstable_rank\n    above:\t3\n",
        "4:12: a tab stands after `metric:`; replace it by a space",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: stable_rank\n\u00a0\u00a0\u00a0 above: 3\n",
        "3:5: expectation `a` has no condition; one of: within, bands, above, below, near",
        "5:1: a no-break space (U+00A0) stands in the key `above`; type the space anew",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id:a\n    metric: stable_rank\n    above: 3\n",
        "3:5: a space is missing after the colon: `id: a`",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric stable_rank\n    above: 3\n",
        "4:5: a colon is missing: `metric: stable_rank`",
    ),
    (
        "geomcheck: 1\napplies_to: [*opd*]\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        '2:14: `*opd*` needs quotes, `"*opd*"`: an unquoted `*` begins a YAML alias',
    ),
    (
        "geomcheck: 1\napplies_to: [!tiny-*]\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        '2:14: `!tiny-*` needs quotes, `"!tiny-*"`: an unquoted `!` begins a YAML tag',
    ),
    (
        "geomcheck: 1\napplies_to:\n  - *opd*\n  - !tiny-*\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        '3:5: `*opd*` needs quotes, `"*opd*"`: an unquoted `*` begins a YAML alias',
    ),
    (
        "// my suite\ngeomcheck: 1\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "1:1: a comment begins with `#`, not with `//`",
    ),
    (
        "geomcheck: 1\nexpect:\n  - &x {id: a, metric: stable_rank, above: 2}\n  - <<: *x\n    id: b\n",
        "4:5: write the keys out, or use `defaults` or `extends`",
        "4:5: expectation `b` needs `metric` (or `regime` or `trains`)",
    ),
    (
        "geomcheck: 1\napplies_to: [\u201c*opd*\u201d]\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        '2:14: write `"*opd*"`',
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: \u201cstable_rank\u201d\n    above: 3\n",
        "4:13: did you mean `stable_rank`? (all: geomcheck metrics)",
    ),
    (
        "geomcheck: 1\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n---\ngeomcheck: 1\n",
        "4:1: a second document begins here; a suite is one: remove the `---`, or use a f",
    ),
    (
        'geomcheck: 1\nexpect:\n  - id: a\n    metric: top_energy\n    k: "16"\n    above: 30%\n',
        '5:8: `k`: found `"16"`',
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: stable_rank\n"
        "    bands: {30: [2, 3]}\n  - {id: b, metric: nope, above: 1}\n",
        "5:12: write `- {step: 30, within: [2, 3]}`, a line for each step",
        "6:21: unknown metric `nope`",
    ),
    (
        'geomcheck: 1\napplies_to: [".*opd.*"]\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n',
        '2:14: did you mean `"*opd*"`?',
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: [stable_rank, update_norm]\n    above: 3\n",
        "4:13: write an expectation for each",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: NSS\n    above: 3\n",
        "4:13: did you mean `spectral_shift`? (all: geomcheck metrics)",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: participation_ratio\n    above: 3\n",
        "4:13: nd the nearest is `stable_rank` (stable rank) (all: geomcheck metrics)",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: cosine\n    above: 3\n",
        "4:13: did you mean `update_cosine`? (all: geomcheck metrics)",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: updateSparsity\n    above: 3\n",
        "4:13: did you mean `update_sparsity`? (all: geomcheck metrics)",
    ),
    (
        "geomcheck:1\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "1:1: a space is missing after the colon: `geomcheck: 1`",
    ),
    (
        "geomcheck: v1\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "1:12: `geomcheck`: unknown format version `v1`; this geomcheck reads `geomcheck: ",
    ),
    (
        "version: 1\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "1:1: the suite needs `geomcheck`: version of the suite format",
        "1:1: did you mean `geomcheck`?",
    ),
    ("geomcheck: 1\nexpectations:\n  - {id: z, metric: stable_rank, above: 2}\n", "2:1: did you mean `expect`?"),
    (
        "geomcheck: 1\nexpect: {id: z, metric: stable_rank, above: 2}\n",
        "2:9: `expect`: expected a list of `- id: ...`; found a mapping; a `-` is missing",
    ),
    ("geomcheck: 1\nexpect:\n  a:\n    metric: stable_rank\n    above: 2\n", "3:3: write `- id: a` where `a:` is"),
    (
        "geomcheck: 1\nexpect:\n  -id: a\n   metric: stable_rank\n   above: 2\n",
        "3:3: a space is missing after the dash: `- id: ...`",
    ),
    (
        "geomcheck: 1\napplies_to: *opd*\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        '2:13: `*opd*` needs quotes, `"*opd*"`: an unquoted `*` begins a YAML alias',
    ),
    (
        "geomcheck: 1\napplies_to: opd\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        '2:13: did you mean `["*opd*"]`?',
    ),
    (
        'geomcheck: 1\napplies_to: "*opd*, *sft*"\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n',
        '2:13: did you mean `["*opd*", "*sft*"]`?',
    ),
    (
        "geomcheck: 1\nname: My OPD Suite\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "2:7: did you mean `my-opd-suite`?",
    ),
    (
        "geomcheck: 1\nextends: [opd, sft]\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "2:10: `extends`: expected a text; found a list",
    ),
    (
        "geomcheck: 1\nweights: [attention, mlp]\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "2:10: did you mean `linear`, which is both?",
    ),
    (
        "geomcheck: 1\nweights: attn\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "2:10: did you mean `attention`?",
    ),
    (
        "geomcheck: 1\nweights: q_proj\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        '2:10: did you mean `{include: ["*q_proj*"]}`?',
    ),
    (
        'geomcheck: 1\nweights: "*q_proj*"\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n',
        '2:10: did you mean `{include: ["*q_proj*"]}`?',
    ),
    (
        'geomcheck: 1\nweights: {include: "*q_proj*"}\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n',
        '2:20: did you mean `["*q_proj*"]`?',
    ),
    (
        'geomcheck: 1\nweights: {only: ["*q_proj*"]}\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n',
        "2:17: did you mean `include`?",
    ),
    (
        "geomcheck: 1\nabout: OPD: our recipe\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        '2:11: a `: ` inside a text needs quotes around it: `about: "OPD: our recipe"`',
    ),
    (
        "geomcheck: 1\n  name: x\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "2:3: this line is indented deeper than `geomcheck` in line 1: keys that belong t",
    ),
    (
        " geomcheck: 1\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "1:1: the first line is indented, and the others are not; begin it in column 1",
    ),
    (
        '{\n  "geomcheck": 1,\n  "expect": [\n    {"id": "a", "metric": "stable_rank", "above": 2},\n  ]\n',
        "1:1: the `{` that opens here is never closed; add `}`",
    ),
    ("[suite]\ngeomcheck = 1\n", "1:1: a suite is YAML, not INI or TOML: it starts with `geomcheck: 1`"),
    ("geomcheck = 1\nexpect = []\n", "1:1: write the first line as `geomcheck: 1`, with a colon and a space"),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: stable_rank\n   above: 2\n",
        "5:4: this line is indented less than `metric` in line 4: keys that belong togeth",
    ),
    (
        "geomcheck: 1\nexpect:\n   - id: a\n     metric: stable_rank\n"
        "     above: 2\n  - id: b\n    metric: stable_rank\n    above: 3\n",
        "6:3: the entries of a list are aligned: this `-` is in column 3, that of line 3 ",
    ),
    ("geomcheck: 1\nexpect:\n  - id: a;\n    metric: stable_rank\n    above: 2\n", "3:9: did you mean `a`?"),
    (
        "geomcheck: 1\nexpect:\n  id: a\n  metric: stable_rank\n  above: 2\n",
        "3:3: `expect`: expected a list of `- id: ...`; found a mapping; a `-` is missing",
    ),
    ("geomcheck: 1\nexpect:\n  - id: a\n    - metric: stable_rank\n    - above: 2\n", "4:5: write the key without it"),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n  - metric: stable_rank\n  - above: 2\n",
        "4:5: each `-` begins an expectation: write the keys of one below each other, and",
    ),
    (
        "geomcheck: 1\nexpect:\n  * id: a\n    metric: stable_rank\n",
        "3:3: a list entry begins with `- `, not with `* `",
    ),
    (
        "geomcheck: 1\nexpect:\n  \u2022 id: a\n    metric: stable_rank\n",
        "3:3: a list entry begins with `- `, not with `• `",
    ),
    (
        "geomcheck: 1\nexpect:\n  \u2013 id: a\n    metric: stable_rank\n    above: 2\n",
        "3:3: a list entry begins with `- `, not with `– `",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: principal_angle\n    below: 1 degree\n",
        "5:12: did you mean `1 deg`?",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: principal_angle\n    below: 1\n",
        "5:12: write `1 deg`, `1°` or `0.0175 rad`",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: principal_angle\n    below: 1\u00ba\n",
        "5:12: did you mean `1 deg`?",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: principal_angle\n    below: 1 deg\n    stat: p99\n",
        "6:11: did you mean `p95`?",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: top_energy\n    k: 16.0\n    above: 3%\n",
        "5:8: did you mean `16`?",
    ),
    ("geomcheck: 1\nexpect:\n  - id: a\n    metric: top_energy\n    K: 16\n    above: 3%\n", "5:5: did you mean `k`?"),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: top_energy\n    rank: 16\n    above: 3%\n",
        "5:5: did you mean `k`?",
    ),
    ("geomcheck: 1\nexpect:\n  - id: a\n    metric: top_energy\n    k: all\n    above: 3%\n", "5:8: `k`: found `all`"),
    ("geomcheck: 1\nexpect:\n  - id: a\n    regime: OPD\n", "4:13: did you mean `opd`?"),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: regime\n    within: opd\n",
        "4:13: `regime` stands instead of `metric`: write `regime: ...`",
    ),
    ("geomcheck: 1\nexpect:\n  - id: a b\n    metric: stable_rank\n    above: 2\n", "3:9: did you mean `a-b`?"),
    (
        "geomcheck: 1\nexpect:\n  - id: 1\n    metric: stable_rank\n    above: 2\n",
        '3:9: s, `_`, `.` and `-`, beginning with a letter or digit; quote it: `"1"`',
    ),
    (
        "geomcheck: 1\nexpect:\n  - metric: stable_rank\n    above: 2\n",
        "3:5: this expectation needs `id`: name of the expectation, unique in the suite",
    ),
    (
        "geomcheck: 1\nexpect:\n  - stable_rank: [20, 30]\n",
        "3:5: did you mean `metric: stable_rank`?",
        "3:5: this expectation needs `id`: name of the expectation, unique in the suite",
    ),
    (
        "geomcheck: 1\nexpect:\n  - stable_rank > 20\n",
        "3:5: write `id: ...`, `metric: stable_rank` and a condition such as `above: 20`",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: stable_rank > 20\n",
        "4:13: write `metric: stable_rank` alone, and parameters and conditions as keys of",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: stable_rank(k=3)\n    above: 3\n",
        "4:13: write `metric: stable_rank` alone, and parameters and conditions as keys of",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric:\n      name: stable_rank\n    above: 3\n",
        "5:7: write the name alone",
    ),
    ("geomcheck: 1\nexpect:\n  -\n", "3:4: an expectation is a mapping with `id` and `metric`; found nothing"),
    (
        "geomcheck: 1\nexpect:\n  - {id: a, metric:stable_rank, above:3}\n",
        "3:5: a space is missing after the colon: `metric: stable_rank`",
    ),
    (
        "geomcheck: 1\nexpect:\n  - {id: a, metric: stable_rank, above: 3\n"
        "  - {id: z, metric: stable_rank, above: 2}\n",
        "3:5: the `{` that opens here is never closed; add `}`",
    ),
    (
        "geomcheck: 1\nexpect:\n  - {id: a metric: stable_rank above: 3}\n",
        "3:18: keys between `{` and `}` are parted by commas: a comma is missing before th",
    ),
    (
        "geomcheck: 1\nexpect:\n  - {id: a; metric: stable_rank; above: 3}\n",
        "3:19: keys between `{` and `}` are parted by commas: a comma is missing before th",
    ),
    (
        "geomcheck: 1\ndefaults: {k: 16}\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "2:12: unknown metric `k` in `defaults`; parameters stand below their metric: `pri",
    ),
    (
        "geomcheck: 1\ndefaults: {stable_rank: {within: [2, 3]}}\n"
        "expect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "2:26: unknown key `within` in `defaults` of stable_rank: it has no parameters",
    ),
    (
        "geomcheck: 1\nexpect: [stable_rank]\n",
        "2:10: write `id: ...`, `metric: stable_rank` and a condition such as `above: 20`",
    ),
    (
        "geomcheck: 1\ninclude: opd.yaml\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "2:1: did you mean `extends`?",
    ),
    (
        "geomcheck: 1\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n...\nname: x\n",
        "5:1: `...` above ends the document; remove it",
    ),
    ("# just a comment\n", "1:1: the file is empty; a suite starts with `geomcheck: 1`"),
    ("geomcheck: 1\nexpect:\n  # - {id: z}\n", "2:8: `expect`: expected a list of `- id: ...`; found nothing"),
    (
        "geomcheck: 1\nexpect: |\n  - {id: z, metric: stable_rank, above: 2}\n",
        "2:9: `expect`: expected a list of `- id: ...`; found a text",
    ),
    ("geomcheck: 1\nexpect: '- id: a'\n", "2:9: `expect`: expected a list of `- id: ...`; found a text"),
    ("<suite/>\n", "1:1: a suite is a mapping that starts with `geomcheck: 1`; found a single value"),
    (
        'geomcheck: 1\nname: "x\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n',
        '2:7: the quote " that opens here is never closed; add " where the text ends',
    ),
    (
        "geomcheck: ${VERSION}\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "1:12: `geomcheck`: unknown format version `${VERSION}`; this geomcheck reads `geo",
    ),
    (
        "geomcheck: 1\nbase: {{ base }}\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "2:7: `base`: expected a text; found a mapping",
        "2:8: a key is a plain word; quote a text that begins with `{`, such as a templat",
    ),
    (
        'geomcheck: 1\nbase: C:\\models\\x\nname: "C:\\models"\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n',
        "3:10: write it twice, `\\\\`, or use single quotes",
    ),
    (
        "geomcheck: 1\nstorage: bf16\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "2:10: `storage`: expected a list of W0's format and the run's, such as `[bf16, fp",
    ),
    (
        "geomcheck: 1\nprofiles: mine.yaml\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "2:11: `profiles`: expected a list such as `[paper, profiles/mine.yaml]`; found `m",
    ),
    (
        "geomcheck: 1\nextends: ./opd\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "2:10: did you mean `opd`, which is shipped?",
    ),
    (
        'geomcheck: 1\napplies_to: ["opd|sft"]\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n',
        '2:14: did you mean `"*opd*"` or `"*sft*"`?',
    ),
    (
        'geomcheck: 1\napplies_to: ["!^tiny"]\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n',
        '2:14: did you mean `"!*tiny*"`?',
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: low_magnitude_overlap\n    alpha: 30\n    above: 3%\n",
        "5:12: did you mean `30%`?",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: subspace_alignment\n"
        "    k: 16\n    to: final\n    above: 30%\n    at: first\n",
        "6:9: did you mean `last`?",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: update-support\n    below: 30%\n",
        "4:13: did you mean `update_support`? (all: geomcheck metrics)",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: Update_Support\n    below: 30%\n",
        "4:13: did you mean `update_support`? (all: geomcheck metrics)",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: sparsity_of_update\n    below: 30%\n",
        "4:13: did you mean `update_sparsity`? (all: geomcheck metrics)",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: stable_rank\n    within: [2, 3],\n",
        "5:19: nothing may follow `]`",
    ),
    (
        "geomcheck: 1\r\nexpect:\r\n\t- id: a\r\n",
        "3:1: the line is indented by a tab; YAML takes spaces alone: replace it by space",
    ),
    ("geomcheck 1\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n", "1:1: a colon is missing: `geomcheck: 1`"),
    (
        "Geomcheck: 1\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "1:1: the suite needs `geomcheck`: version of the suite format",
        "1:1: did you mean `geomcheck`?",
    ),
    (
        'geomcheck: "1"\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n',
        "1:12: s geomcheck reads `geomcheck: 1`; the quotes make it a text: write `1`",
    ),
    (
        "geomcheck: one\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "1:12: `geomcheck`: unknown format version `one`; this geomcheck reads `geomcheck:",
    ),
    ("geomcheck: 1\nexpect\n  - {id: z, metric: stable_rank, above: 2}\n", "2:1: a colon is missing: `expect: ...`"),
    (
        "geomcheck: 1\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n"
        "expect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "4:1: `expect` is given twice: here and in line 2; keep one",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: stable_rank\n"
        "    above: 2\n  - id: a\n    metric: stable_rank\n    below: 3\n",
        "6:9: `id: a` is given twice: here and in line 3; ids are unique",
    ),
    ("geomcheck: 1\nexpect:\n  - id: a\n    regime: [opd, sft]\n", "4:13: `regime`: expected a text; found a list"),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    regime: opd\n    above: 3\n",
        "5:5: unknown key `above` in expectation `a`",
        "5:5: expectation `a` has several conditions, `regime` and `above`; keep one (onl",
    ),
    ("geomcheck: 1\nexpect:\n  - id: a\n    regime: grpo\n", "4:13: `regime`: found `grpo`"),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: functional_sufficiency\n    above: 80%\n",
        "3:5: expectation `a` needs `score`: name of the score: an `eval...` entry of log",
        "3:5: expectation `a` needs `random`: runs in random channels of the same K, or t",
    ),
    (
        "geomcheck: 1\nexpect:\n  - a: stable_rank\n",
        "3:5: this expectation needs `metric` (or `regime` or `trains`)",
        "3:5: this expectation needs `id`: name of the expectation, unique in the suite",
    ),
    (
        "geomcheck: 1\nexpect:\n  - id: a, metric: stable_rank, above: 2\n",
        "3:12: two keys stand in one line; put `metric` on a line of its own",
    ),
    (
        "geomcheck: 1\nexpect:\n  - {id: a, metric: stable_rank, above: 2},\n",
        "3:43: nothing may follow `}`; a text that begins with `{` needs quotes",
    ),
    (
        "geomcheck: 1\nexpect:\n  - {id: a, metric: stable_rank, above: 2}}\n",
        "3:43: `}` closes nothing that is open; remove it",
    ),
    (
        'geomcheck: 1\nexpect:\n  - {"id": "a", "metric": "stable_rank", "above": 2\n',
        "3:5: the `{` that opens here is never closed; add `}`",
    ),
    (
        'geomcheck: 1\nexpect:\n  - id: "a\n    metric: stable_rank\n    above: 2\n',
        '3:9: the quote " that opens here is never closed; add " where the text ends',
    ),
    (
        "geomcheck: 1\nexpect:\n    - id: a\n    metric: stable_rank\n    above: 2\n",
        "4:5: `metric` stands beside the `-` of `- id: a` in line 3; to belong to it, it ",
    ),
    (
        "geomcheck: 1\nexpect:\n  -   id: a\n    metric: stable_rank\n",
        "4:5: this line is indented less than `id` in line 3: keys that belong together b",
    ),
    (
        "geomcheck: 1\nexpect:\n- id: a\n  metric: stable_rank\n   above: 2\n",
        "5:4: this line is indented deeper than `metric` in line 4: keys that belong toge",
    ),
    (
        "geomcheck: 1\nweights: all\nweight: mlp\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "3:1: did you mean `weights`?",
    ),
    (
        "geomcheck: 1\napplies_to: []\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        '2:13: `applies_to`: expected a list of run name patterns such as `["*opd*"]`; fou',
    ),
    (
        "geomcheck: 1\napplies_to: [1]\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "2:14: `applies_to`: a pattern is a text; found `1`",
    ),
    (
        "geomcheck: 1\napplies_to: {include: ['*']}\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        '2:13: `applies_to`: expected a list of run name patterns such as `["*opd*"]`; fou',
    ),
    ("geomcheck: 1\nextends: opdd\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n", "2:10: did you mean `opd`?"),
    (
        "geomcheck: 1\nextends: opd.yaml\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "2:10: did you mean `opd`, which is shipped?",
    ),
    (
        "geomcheck: 1\nbase: 5\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        '2:7: `base`: expected a text; found `5`; quote it: `"5"`',
    ),
    (
        "geomcheck: 1\nstorage: [bfloat16, float32]\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "2:10: did you mean `[bf16, fp32]`?",
    ),
    (
        "geomcheck: 1\ndefaults:\n  - stable_rank\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "3:3: `defaults`: expected a mapping; found a list",
    ),
    (
        "geomcheck: 1\ndefaults: {NSS: {k: 3}}\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n",
        "2:12: did you mean `spectral_shift`? (all: geomcheck metrics)",
    ),
    (
        'geomcheck: 1\ndefaults: {principal_angle: {k: "16"}}\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n',
        '2:33: `k`: found `"16"`',
    ),
    (
        "---\ngeomcheck: 1\nexpect:\n  - {id: z, metric: stable_rank, above: 2}\n---\n",
        "5:1: a second document begins here; a suite is one: remove the `---`, or use a f",
    ),
    ("```yaml\ngeomcheck: 1\n```\n", "1:1: a fence of Markdown, which is not part of the suite; remove it"),
    (
        "<<<<<<< HEAD\ngeomcheck: 1\n=======\ngeomcheck: 1\n>>>>>>> x\n",
        "1:1: a merge conflict is left here (`<<<<<<<`); settle it",
    ),
    ("\u0000", "1:1: character U+0000 may not stand in a YAML file"),
    (
        "geomcheck: 1\nexpect:\n  - id: a\n    metric: stable_rank\n"
        "    above: 3\n<<<<<<< HEAD\n    at: last\n=======\n    at: first\n>>>>>>> b\n",
        "6:1: a merge conflict is left here (`<<<<<<<`); settle it",
    ),
]

OF_STABLE_RANK = [
    ("why:because\nabove: 3", "5:5: a space is missing after the colon: `why: because`"),
    ("above:\u00a03", "5:11: a no-break space (U+00A0) stands where a plain space is needed; type the sp"),
    (
        'above: 3\nwhy: "never closed\nat: last',
        '6:10: the quote " that opens here is never closed; add " where the text ends',
    ),
    ("within: [20, 30\nat: last", "5:13: the `[` that opens here is never closed; add `]`"),
    ("above 3", "5:5: a colon is missing: `above: 3`"),
    ("above: @3", '5:12: a text that begins with `@` needs quotes: `"@3"`'),
    ("why: `x` is odd\nabove: 3", '5:10: a text that begins with ``` needs quotes: `"`x` is odd"`'),
    ("above: 3 // at least", "5:12: a plain number such as `25`; a comment begins with ` #`, after a space"),
    ("// at least\nabove: 3", "5:5: a comment begins with `#`, not with `//`"),
    (
        "why: \u201cit\u2019s odd\u201d\nmetric: \u201cstable_rank\u201d",
        "3:5: expectation `a` has no condition; one of: within, bands, above, below, near",
        "6:5: `metric` is given twice: here and in line 4; keep one",
    ),
    ("above: 3\nabove: 4", "6:5: `above` is given twice: here and in line 5; keep one"),
    (
        "above: 3\nid: b\nmetric: update_support\nbelow: 3%",
        "6:5: `id` is given twice: here and in line 3; another expectation begins with `-",
    ),
    ("above: 3\nat: 30", "6:9: did you mean `{step: 30}`?"),
    ("above: 3\nat: final", "6:9: did you mean `last`?"),
    ("above: 3\nseverity: warn", "6:5: did you mean `level`?"),
    ("min: 3", "5:5: did you mean `above`?"),
    ("max: 3", "5:5: did you mean `below`?"),
    ("less_than: 3", "5:5: did you mean `below`?"),
    ("greater: 3", "5:5: did you mean `above`?"),
    ("lt: 3", "5:5: did you mean `below`?"),
    ("gte: 3", "5:5: did you mean `above`?"),
    ("equals: 3", "5:5: did you mean `near`?"),
    ("eq: 3", "5:5: did you mean `near`?"),
    ("between: [2, 3]", "5:5: did you mean `within`?"),
    ("range: [2, 3]", "5:5: did you mean `within`?"),
    (" above: 2", "5:6: this line is indented deeper than `metric` in line 4: keys that belong toge"),
    ("above: 2,\nat: last", "5:12: write `2`, without the mark behind it"),
    ("above = 3", "5:5: `=` is no YAML; a key and its value are written `above: 3`"),
    ("above:: 3", "5:5: did you mean `above`?"),
    ("above : 3\nat : lst", "6:10: did you mean `last`?"),
    ("Above: 3", "5:5: did you mean `above`?"),
    ("above: 3,5", "5:12:  a plain number such as `25`; decimals are written with a point: `3.5`"),
    ("above: 1,000", "5:12: write `1000`, without a mark between the digits"),
    ("above: 1_000", "5:12: write `1000`, without a mark between the digits"),
    ("above: three", "5:12: `above`: `three` is not a number with a unit; expected a plain number such "),
    ("above: ~20", "5:12: write `20`, and how far it may be off as `tolerance`"),
    ("above: \u00b1 3", "5:12: write `3`: a tolerance is to both sides"),
    ("within: 20-30", "5:13: did you mean `[20, 30]`?"),
    ("within: 20..30", "5:13: did you mean `[20, 30]`?"),
    ("within: (20, 30)", "5:13: did you mean `[20, 30]`?"),
    ("within: 20, 30", "5:13: did you mean `[20, 30]`?"),
    ("within: [20 30]", "5:13: did you mean `[20, 30]`?"),
    ("within: [20; 30]", "5:13: did you mean `[20, 30]`?"),
    ("within: [20, 30, 40]", "5:13: `within`: expected two values, `[low, high]`; found a list of 3"),
    ("within: {low: 20, high: 30}", "5:13: did you mean `[20, 30]`?"),
    ("within:\n  - 20\n  -30", "7:7: a space is missing after the dash: `- 30`"),
    ("within: [20 , ]", "5:13: `within`: expected two values, `[low, high]`; found a list of 1"),
    ("within: ]20, 30[", "5:13: `]` closes nothing that is open; remove it"),
    ('within: ["20, 30"]', "5:13: did you mean `[20, 30]`?"),
    (
        "near: 25 +- 5",
        "5:5: `near` needs a `tolerance`: an amount, or a percentage such as `10%`",
        "5:11: write `near: 25` and `tolerance: 5`",
    ),
    ("near: 25\ntolerance: \u00b15", "6:16: write `5`: a tolerance is to both sides"),
    ("near: 25", "5:5: `near` needs a `tolerance`: an amount, or a percentage such as `10%`"),
    ("above: 3\nat: step 30", "6:9: did you mean `{step: 30}`?"),
    ("above: 3\nat: [10, 30]", "6:9: `at`: found a list for a checkpoint"),
    ("above: 3\nat: {epoch: 2}", "6:9: `at`: unknown key `epoch` for a checkpoint"),
    (
        "above: 3\nat: {step: 10-30}",
        "6:16: `at`: a step is an integer >= 0; found `10-30`; a span is written `{from: {",
    ),
    ("above: 3\nat: {steps: 30}", "6:9: did you mean `step`?"),
    ("above: 3\nat: 50%", "6:9: did you mean `{progress: 50%}`?"),
    ("above: 3\nat: end", "6:9: did you mean `last`?"),
    ("above: 3\nat: {progress: 20}", "6:20: did you mean `20%`?"),
    ("above: 3\nat: -1", "6:9: did you mean `last`?"),
    (
        "above: 3\nat: {from: 10, to: 20}",
        "6:16: did you mean `{from: {step: 10}, ...}`?",
        "6:24: did you mean `{..., to: {step: 20}}`?",
    ),
    ("above: 3\nstep: 30", "6:5: did you mean `at`?"),
    ("above: 3\nat: step: 30", "6:9: a mapping within a line stands in braces: `at: {step: 30}`"),
    ("above: 3\nat: checkpoint-30", "6:9: did you mean `{step: 30}`?"),
    ('above: 3\nat: {step: "30"}', '6:16: `at`: a step is an integer >= 0; found `"30"`; the quotes make it a text: w'),
    ("above: 3\nper: layers", "6:10: did you mean `layer`?"),
    ("above: 3\nfold: average", "6:11: did you mean `mean`?"),
    ("above: 3\nlevel: warning", "6:12: did you mean `warn`?"),
    ("above: 3\nlevel: fatal", "6:12: did you mean `error`?"),
    (
        "above: 3\nwhy: because: it matters",
        '6:17: a `: ` inside a text needs quotes around it: `why: "because: it matters"`',
    ),
    ("above: 3\nwhy: 'it's odd'", "6:13: write it twice, `''`, or use double quotes outside"),
    ('above: 3\nwhy: "a "b" c"', '6:13: this " ends the text; use single quotes outside'),
    ("above: 3\nwhy: [a]\nwhy2: b", "6:10: `why`: expected a text; found a list", "7:5: did you mean `why`?"),
    ("above: 3\nper: layer\nallow: 5", "7:12: did you mean `5%`?"),
    ("trend: up", "5:12: did you mean `rising`?"),
    ("trend: increasing", "5:12: did you mean `rising`?"),
    ("trend: flat\ntolerance: 10", "6:16: did you mean `10%`? (write `1000%` if not)"),
    ("trend: stable\ntolerance: 10%", "5:12: did you mean `flat`?"),
    ("like: baseline\ntolerance: 10%", "5:11: `like`: found `baseline`"),
    ("like: ../runs/opd\ntolerance: 10%", "5:11: `like`: found `../runs/opd`"),
    ("bands:\n  30: [2, 3]\n  60: [2, 3]", "6:7: write `- {step: 30, within: [2, 3]}`, a line for each step"),
    ("bands: [[30, 2, 3]]", "5:13: did you mean `{step: 30, within: [2, 3]}`?"),
    (
        "bands: [{step: 30, band: [2, 3]}]",
        "5:13: ss: 20%, within: [low, high]}`; found a mapping with `step` and `band`",
    ),
    ("bands: [{at: {step: 30}, within: [2, 3]}]", "5:13: `bands`: unknown key `at` for a checkpoint"),
    (
        "bands: [{step: 30, within: [2, x]}, {step: 60, within: [y, 3]}, {stp: 90, within: [2, 3]}]",
        "5:36: `bands`: `x` is not a number with a unit; expected a plain number such as `",
        "5:61: `bands`: `y` is not a number with a unit; expected a plain number such as `",
        "5:69: did you mean `step`?",
    ),
    ("params: {k: 3}\nabove: 3", "5:5: unknown key `params` in expectation `a`; a metric's parameters are keys of "),
    ("condition: above 3", "5:5: unknown key `condition` in expectation `a`; a condition is a key of its own"),
    ("above: {min: 3}", "5:12: `above`: found a mapping; expected a plain number such as `25`"),
    ("above: 3\nwhy: - a dash", "6:10: a text that begins with `- ` needs quotes; a list begins on a line of its o"),
    ("above: 3\nwhy: | because", "6:10: `|` begins a text of several lines, which starts on the next line; or quote"),
    ("above: &3", "5:12: `above`: found nothing; expected a plain number such as `25`"),
    ("above: 3\nwhy: ? really", '6:10: a text that begins with `? ` needs quotes: `"? really"`'),
    ("above: 3\nwhy: {curly} text", "6:18: nothing may follow `}`; a text that begins with `{` needs quotes"),
    ("above: 3\nwhy: [bracket] text", "6:20: nothing may follow `]`; a text that begins with `[` needs quotes"),
    ("above: 3\nwhy: #nothing", "6:9: `why`: expected a text; found nothing"),
    ("above: 3#comment", "5:12: a plain number such as `25`; a comment begins with ` #`, after a space"),
    ("above: 3 -- comment", "5:12: a plain number such as `25`; a comment begins with ` #`, after a space"),
    ("above: 3 /* x */", "5:12: a plain number such as `25`; a comment begins with ` #`, after a space"),
    ("/* x */\nabove: 3", "5:5: a comment begins with `#`, not with `/*`"),
    ("; x\nabove: 3", "5:5: a comment begins with `#`, not with `;`"),
    ("above: !float 3", "5:12: tags such as `!float` are not allowed: a suite is plain data; remove it"),
    ("above: ${X}", "5:12: `above`: `${X}` is not a number with a unit; expected a plain number such a"),
    ("above: None", "5:12: `above`: `None` is not a number with a unit; expected a plain number such a"),
    ("above: null", "5:12: `above`: found nothing; expected a plain number such as `25`"),
    ("above: yes", "5:12: `above`: `yes` is not a number with a unit; expected a plain number such as"),
    ("above: 5e", "5:12: `above`: `5e` is not a number with a unit; expected a plain number such as "),
    ("above: .5.5", "5:12: `above`: `.5.5` is not a number with a unit; expected a plain number such a"),
    ("within: [20, 30]]", "5:21: `]` closes nothing that is open; remove it"),
    ("within: [20, 30}", "5:20: write `]`"),
    ("within: {20, 30}", "5:13: `within`: expected two values, `[low, high]`; found a mapping"),
    ("above: 3 below: 9", "5:14: two keys stand in one line; put `below` on a line of its own"),
    ("above: 3, below: 9", "5:15: two keys stand in one line; put `below` on a line of its own"),
    ("above: 3; below: 9", "5:15: two keys stand in one line; put `below` on a line of its own"),
    ("above: 3\n    below: 9", "6:9: this line is indented deeper than `above` in line 5: keys that belong toget"),
    ("above: 3\n  below: 9", "6:7: this line is indented deeper than `above` in line 5: keys that belong toget"),
    ('"above: 3"', "5:5: quotes around the whole line make it a text: `above: 3`"),
    ("above", "5:5: a colon is missing: `above: ...`"),
    ("- above: 3", "5:5: write the key without it"),
    ("above: 3\nweights: {include: []}", "6:24: `weights`: `include` is a list of globs; found an empty list"),
    ("above: 3\nweights: {include: [^model.*q_proj]}", '6:25: did you mean `"*model*"` or `"*q_proj*"`?'),
    ("above: 3\nweights: {include: ['.*q_proj.*']}", '6:25: did you mean `"*q_proj*"`?'),
    ("near: 25\ntol: 3", "6:5: did you mean `tolerance`?"),
    ("approx: 25\ntolerance: 3", "5:5: did you mean `near`?"),
    ("above: 3\nfold: weighted_mean", "6:11: did you mean `weighted`?"),
    ("above: 3\nAT: last", "6:5: did you mean `at`?"),
    (
        "above: 3\nper: run\nallow: 5%",
        "7:5: `allow` tolerates a share of groups, and a run is one group; add `per: laye",
    ),
    ("above: 2\nweights:\n- '*q_proj*'", "7:5: `weights`: found a list for weights"),
    (
        "above: 2\nweights:\n  include: '*q_proj*'\n  exclude: ''",
        '7:16: did you mean `["*q_proj*"]`?',
        "8:16: `weights`: `exclude` is a list of globs; found an empty text",
    ),
    ("within: 20", "5:13: `within`: expected two values, `[low, high]`; found `20`"),
    (
        "within: [20%, 30%]",
        "5:14: `within`: `20%` has the unit `%`; expected a plain number such as `25`",
        "5:19: `within`: `30%` has the unit `%`; expected a plain number such as `25`",
    ),
    ("within: [30, 20]", "5:5: `30 <= value <= 20` can never hold: the lower bound is above the upper one"),
    ("above: 30\nbelow: 20", "5:5: `30 < value < 20` can never hold: the lower bound is above the upper one"),
    ("within:\n  min: 20\n  max: 30", "6:7: did you mean `[20, 30]`?"),
    ("within: null", "5:13: `within`: expected two values, `[low, high]`; found nothing"),
    ("within: [null, 30]", "5:14: `within`: found nothing; expected a plain number such as `25`"),
    ("within: [, 30]", "5:14: a value is missing before this comma"),
    ("within: [20, inf]", "5:18: r such as `25`; for no bound on one side, use `above` or `below` alone"),
    ("within: [20, .inf]", "5:18: r such as `25`; for no bound on one side, use `above` or `below` alone"),
    ("within: [-inf, 30]", "5:14: r such as `25`; for no bound on one side, use `above` or `below` alone"),
    ("above: \u221e", "5:12: r such as `25`; for no bound on one side, use `above` or `below` alone"),
    (
        "above: 3\nbelow: 9\nnear: 5\ntolerance: 1",
        "6:5: nd `below` and `near`; keep one (only `above` and `below` go together)",
    ),
    ("above:\n  3\n  4", "6:7: `above`: `3 4` is not a number with a unit; expected a plain number such as"),
    ("above: [3]", "5:12: `above`: found a list; expected a plain number such as `25`"),
    ("above: 3 deg", "5:12: `above`: `3 deg` has the unit `deg`; expected a plain number such as `25`"),
    ("above: 3 %", "5:12: `above`: `3 %` has the unit `%`; expected a plain number such as `25`"),
    ("above: 3x", "5:12: `above`: `3x` is not a number with a unit; expected a plain number such as "),
    ("above: 3e", "5:12: `above`: `3e` is not a number with a unit; expected a plain number such as "),
    ("above: 0x", "5:12: `above`: `0x` is not a number with a unit; expected a plain number such as "),
    ("above: 1/3", "5:12: `above`: `1/3` is not a number with a unit; expected a plain number such as"),
    ("above: 2*3", "5:12: `above`: `2*3` is not a number with a unit; expected a plain number such as"),
    ("above: 10k", "5:12: `above`: `10k` is not a number with a unit; expected a plain number such as"),
    ("above: 1e-3%", "5:12: `above`: `1e-3%` has the unit `%`; expected a plain number such as `25`"),
    ("not_above: 3", "5:5: did you mean `above`?"),
    ("greater-than: 3", "5:5: did you mean `above`?"),
    ("lessThan: 3", "5:5: did you mean `below`?"),
    (">: 3", "5:5: write `above: 3`"),
    ("'>': 3", "5:5: did you mean `above`?"),
    ("<=: 3", "5:5: did you mean `below`?"),
    ("above_equal: 3", "5:5: did you mean `above`?"),
    ("above: 3\nat: [last]", "6:9: `at`: found a list for a checkpoint"),
    ("above: 3\nat: {first}", "6:9: did you mean `first`, without braces?"),
    ("above: 3\nat: {step: 30, progress: 20%}", "6:9: `at`: found a mapping for a checkpoint"),
    ("above: 3\nat: {from: last, to: first}", "6:9: `at`: `from` (last) comes after `to` (first)"),
    ("above: 3\nat: {from: 20%}", "6:16: did you mean `{from: {progress: 20%}, ...}`?"),
    ("above: 3\nat: last 3", "6:9: did you mean `last`?"),
    ("above: 3\nat: Last", "6:9: did you mean `last`?"),
    ("above: 3\nat: step=30", "6:9: did you mean `{step: 30}`?"),
    ("above: 3\nfor: attention", "6:5: did you mean `weights`?"),
    ("above: 3\nmodule: q_proj", "6:5: did you mean `weights`?"),
    ("above: 3\nlayer: 3", "6:5: did you mean `weights`?"),
    ("above: 3\nper: q_proj", "6:10: `per`: found `q_proj`"),
    ("above: 3\nignore: 5%", "6:5: unknown key `ignore` in expectation `a`"),
    ("above: 3\nskip: true", "6:5: unknown key `skip` in expectation `a`"),
    ("above: 3\nenabled: false", "6:5: unknown key `enabled` in expectation `a`"),
    ("above: 3\ntags: [x]", "6:5: unknown key `tags` in expectation `a`"),
    ("above: 3\nwarn: true", "6:5: did you mean `level`?"),
    ("above: 3\nlevel: [warn]", "6:12: `level`: found a list"),
    ("above: 3\nwhy:\n  - a\n  - b", "7:7: `why`: expected a text; found a list"),
    ("above: 3\nwhy: >\nbecause", "7:1: the text of `why` stands on the lines below it, indented deeper than `why`"),
    ("above: 3\nwhy: |\nbecause", "7:1: the text of `why` stands on the lines below it, indented deeper than `why`"),
    ("bands: []", "5:12: high]}` or `{progress: 20%, within: [low, high]}`; found an empty list"),
    (
        "bands: {step: 30, within: [2, 3]}",
        "5:12: 0%, within: [low, high]}`; found a mapping; put it between `[` and `]`",
    ),
    (
        "bands:\n  - step: 30\n  within: [2, 3]",
        "7:7:  30` in line 6; to belong to it, it needs 2 more spaces of indentation",
    ),
    ("bands:\n  - step: 30\n    within: 2-3", "7:17: did you mean `[2, 3]`?"),
    (
        "bands:\n  - step: 30\n    above: 2",
        "6:9: s: 20%, within: [low, high]}`; found a mapping with `step` and `above`",
    ),
    ("bands: [{step: 30, within: [2, 3]}]\nat: last", "6:5: `bands` names its own checkpoints; remove `at`"),
    (
        "bands: [{step: 30, within: [2, 3]}, {step: 30, within: [2, 4]}]",
        "5:41: `bands`: step 30 has two bands; keep one",
    ),
]

OF_UPDATE_SUPPORT = [
    ("below: %30", "5:12: the percent sign stands behind the number: `30%`"),
    ("above: >5%", "5:12: write `5%`"),
    ("above: > 5%", "5:12: write `5%`"),
    ("below: 30 percent", "5:12: did you mean `30%`?"),
    ("below: 30pct", "5:12: did you mean `30%`?"),
    ("below: 0,3", "5:12: ction such as `30%` or `0.3`; decimals are written with a point: `0.3`"),
    ("below: 30 %%", "5:12: did you mean `30%`?"),
    ("below: <30%", "5:12:  as `30%` or `0.3`; the key says already what is compared: write `30%`"),
    ("below: = 30%", "5:12:  as `30%` or `0.3`; the key says already what is compared: write `30%`"),
    ("below: \uff1330%", "5:12: `below`: `３30%` is not a number with a unit; expected a fraction such as `3"),
    ("threshold: 1e-3\nbelow: 30%", "5:5: did you mean `eta`?"),
]

PREFIX = "geomcheck: 1\nexpect:\n  - id: a\n    metric: {}\n"


def files() -> list[tuple[str, tuple[str, ...]]]:
    """Every mistake as a whole file, with what must be said."""
    found = [(text, said) for text, *said in FILES]
    for metric, cases in (("stable_rank", OF_STABLE_RANK), ("update_support", OF_UPDATE_SUPPORT)):
        for keys, *said in cases:
            found.append((PREFIX.format(metric) + "".join(f"    {line}\n" for line in keys.split("\n")), said))
    return found


def problems(path: Path, text: str | bytes) -> list[str]:
    """What is wrong with a suite, each as `line:column: message`."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    return [str(problem).removeprefix(f"{problem.position.path}:") for problem in caught.value.problems]


@pytest.mark.parametrize(("text", "said"), files())
def test_a_mistake_is_told_where_it_is_and_how_to_mend_it(tmp_path, text, said):
    found = problems(tmp_path / "s.yaml", text)
    for sentence in said:
        place, phrase = sentence.split(": ", 1)
        assert any(problem.startswith(f"{place}: ") and phrase in problem for problem in found), found
    assert not any("the reader says" in problem or "<block end>" in problem for problem in found)


def test_what_is_no_yaml_hides_no_error_elsewhere(tmp_path):
    text = """\
geomcheck: 1
name: Not A Slug
applies_to: [*opd*]
expect:
  - id: a
    metric stable_rank
    above: 3
  - id: b
    metric: nope
    above: 3
  - id: c
    metric: update_support
    within: [47%, 58]
    bands: {30: [2, 3]}
  - id: d
    metric: stable_rank
    within: [20, 30
    at: last
  - id: e
    metric: stable_rank
    above: %3
  - id: f
    metric: stable_rank
    abov: 3
"""
    found = problems(tmp_path / "s.yaml", text)
    assert [problem.split(": ")[0] for problem in found] == [
        "2:7",
        "3:14",
        "6:5",
        "9:13",
        "13:19",
        "14:5",
        "14:12",
        "17:13",
        "21:12",
        "24:5",
    ]


def test_a_wrong_key_hides_no_bound_that_decides_nothing(refusals):
    found = refusals(
        "  - {id: a, metric: update_support, within: [47%, 58], at: nowhere, levl: warn}\n"
        "  - {id: b, metric: update_support, near: 47, tolerance: x}\n"
    )
    assert [problem.split(": ")[0] for problem in found] == ["4:51", "4:60", "4:69", "5:43", "5:58"]
    assert "the upper bound `58`" in found[0]


def test_every_part_of_a_value_is_looked_at(refusals):
    found = refusals(
        "  - {id: a, metric: stable_rank, within: [x, y]}\n"
        "  - {id: b, metric: stable_rank, above: 3, weights: {include: [3, 'a|b'], only: [c]}}\n"
        "  - {id: c, metric: stable_rank, above: 3, at: {from: 3, to: x}}\n"
        "  - {id: d, metric: stable_rank, bands: [3, {step: x, within: [y, 3]}]}\n"
    )
    assert [problem.split(": ")[0] for problem in found] == [
        *("4:43", "4:46", "5:64", "5:67", "5:81", "6:55", "6:62", "7:42", "7:52", "7:64")
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_byte_order_marks_and_line_ends_of_windows_are_read(tmp_path, end):
    text = f"geomcheck: 1{end}expect:{end}  - id: a{end}    metric: stable_rank{end}    above: x{end}"
    assert problems(tmp_path / "s.yaml", codecs.BOM_UTF8 + text.encode())[0].startswith("5:12: `above`: `x` is not")


@pytest.mark.parametrize("indent", [0, 4])
@pytest.mark.parametrize("length", [100, 1990, 3000])
@pytest.mark.parametrize(
    "value", ["{}]", "{}: b: c", "'{}'b'", "[{}}}", "[{} ]]", '"{}', '"{}\\\\x"', "{} *b: ]", "!{}*", ">{}", "%{}"]
)
def test_long_lines_are_mistakes_as_others_are(tmp_path, value, length, indent):
    text = f"geomcheck: 1\nexpect:\n  - id: a\n{' ' * indent}why: {value.format('x' * length)}\n"
    assert max(map(len, problems(tmp_path / "s.yaml", text))) < 3100


def test_utf_16_is_named(tmp_path):
    (problem,) = problems(tmp_path / "s.yaml", codecs.BOM_UTF16_LE + "geomcheck: 1".encode("utf-16-le"))
    assert problem == "1:1: the file is UTF-16 text, as PowerShell writes it; save it as UTF-8"


def test_more_mistakes_of_syntax_than_anybody_reads_end_the_search(tmp_path):
    text = "geomcheck: 1\nexpect:\n" + "  - id:a\n    metric: stable_rank\n" * 2000
    found = problems(tmp_path / "s.yaml", text)
    assert len(found) == 20
    assert "a space is missing after the colon" in found[-1]


NAMES = {
    "NSS": "spectral_shift",
    "normalized spectral shift": "spectral_shift",
    "V16": "subspace_alignment",
    "Sim_K": "subspace_alignment",
    "sim_16": "subspace_alignment",
    "sparsity": "update_sparsity",
    "updateSparsity": "update_sparsity",
    "update sparsity": "update_sparsity",
    "rotation": "principal_angle",
    "principalAngles": "principal_angle",
    "alpha": "hill_exponent",
    "power-law": "hill_exponent",
    "jaccard": "mask_jaccard",
    "frozen": "frozen_share",
    "drift": "relative_update_norm",
    "rank": "stable_rank",
    "StableRank": "stable_rank",
    "stablerank": "stable_rank",
    "spectrum": "update_spectrum",
    "support_of_the_update": "update_support",
}


@pytest.mark.parametrize(("word", "name"), NAMES.items())
def test_what_papers_and_people_call_a_metric_is_suggested(word, name):
    assert metric_hint(word) == f"; did you mean `{name}`? (all: geomcheck metrics)"


@pytest.mark.parametrize(
    ("word", "name"), [("participation_ratio", "stable_rank"), ("participation-ratio", "stable_rank")]
)
def test_what_is_not_measured_is_said_not_to_be(word, name):
    assert f"it is not measured, and the nearest is `{name}`" in metric_hint(word)


def test_no_name_means_two_metrics():
    said = Counter(word for metric in load_metrics() for word in (*metric.synonyms, *metric.akin))
    assert [word for word, count in said.items() if count > 1] == []
    assert not {*said} & {*load_metrics().names()} - {word for metric in load_metrics() for word in metric.akin}


class TestOverriding:
    PARENT = """\
geomcheck: 1
expect:
  - {id: stable-rank-band, metric: stable_rank, within: [20, 30]}
  - {id: q-rank, metric: stable_rank, within: [20, 30], weights: {include: ["*q_proj*"]}}
  - {id: support-max, metric: update_support, below: 30%}
  - {id: kind, regime: opd}
"""

    def load(self, tmp_path: Path, entry: str) -> int:
        (tmp_path / "parent.yaml").write_text(self.PARENT)
        child = tmp_path / "child.yaml"
        child.write_text(f"geomcheck: 1\nextends: parent.yaml\nexpect:\n  - {{{entry}}}\n")
        return len(load_suite(child).expectations)

    @pytest.mark.parametrize(
        "entry",
        [
            "id: stable-rank-bnd, metric: stable_rank, within: [10, 40]",
            "id: stable_rank_band, metric: stable_rank, within: [10, 40], at: last",
            "id: stabel-rank-band, metric: stable_rank, above: 10",
            "id: stable-rank-bands, metric: stable_rank, above: 10",
            "id: kinds, regime: sft",
        ],
    )
    def test_an_id_that_is_nearly_one_of_the_extended_suite_is_an_error(self, tmp_path, entry):
        with pytest.raises(
            SuiteError, match=r":4:10: `\S+` overrides nothing, and is nearly `\S+` of the suite that is"
        ):
            self.load(tmp_path, entry)

    @pytest.mark.parametrize(
        "entry",
        [
            "id: k-rank, metric: stable_rank, within: [20, 30]",
            "id: support-min, metric: update_support, above: 3%",
            "id: stable-rank-bnd, metric: update_norm, above: 3",
            "id: stable-rank-of-mlp, metric: stable_rank, above: 3",
            "id: stable-rank-band-2, metric: stable_rank, above: 3",
        ],
    )
    def test_another_id_is_a_new_expectation(self, tmp_path, entry):
        assert self.load(tmp_path, entry) == 5

    def test_what_names_no_metric_must_override(self, tmp_path):
        with pytest.raises(SuiteError) as caught:
            self.load(tmp_path, "id: stable-rank-bnd, within: [10, 40]")
        assert str(caught.value).endswith(
            ":4:10: `stable-rank-bnd` overrides no expectation, and names no metric of its own; did you mean "
            "`stable-rank-band`?"
        )
        with pytest.raises(
            SuiteError, match="; the suite that is extended has stable-rank-band, q-rank, support-max, kind"
        ):
            self.load(tmp_path, "id: zzz, within: [10, 40]")


@pytest.mark.parametrize(
    ("one", "other", "slip"),
    [
        ("rotation", "rotaiton", True),
        ("rotation", "rotatiom", True),
        ("rotation", "rotations", True),
        ("rotation", "otation", True),
        ("rotation", "rotation", False),
        ("rotation", "rotates", False),
        ("layer-10", "layer-11", False),
        ("rank-a", "rank-b", False),
        ("gate-mlp", "gate-mla", False),
        ("rank-band", "rankband", True),
        ("rank-band", "rank-band-late", False),
    ],
)
def test_slips(one, other, slip):
    assert is_slip(one, other) is is_slip(other, one) is slip


@pytest.mark.parametrize(
    ("glob", "hint"), [("q_proj", "`*q_proj*`"), ("self_attn.q_proj.weight", "`*self_attn.q_proj.weight*`")]
)
def test_a_glob_of_a_part_of_a_name_is_completed(judge, make_record, glob, hint):
    record = make_record({("stable_rank", "value"): 25.0})
    verdict = judge(f"metric: stable_rank\nabove: 3\nweights: {{include: ['{glob}']}}", record)
    assert verdict.outcome == "error"
    assert verdict.message.endswith(f"; globs match whole names: did you mean {hint}?")
