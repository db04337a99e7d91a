"""The image of records' statistics: what it draws, and where it may go."""

from collections import Counter

import numpy as np
import pytest

from algpt2.errors import UserError
from algpt2.records.statistics import Tallies
from algpt2.tracking import record_charts
from algpt2.tracking.record_charts import length_bins, ranked_uses, require_drawable, write_statistics_image

pytest.importorskip("matplotlib")
TALLIES = Tallies(np.array([5, 0, 9, 1, 0]), Counter({1: 3, 4: 2}), Counter({0: 2, 1: 1, 900: 7}))


def test_every_document_is_in_one_range_of_lengths():
    """Catches a shortest or a longest document that falls out of the ranges."""
    for lengths in (Counter({0: 2, 1: 1, 900: 7}), Counter(range(200)), Counter({0: 1}), Counter({1023: 1, 1024: 1})):
        counts, edges = length_bins(lengths)
        assert counts.sum() == sum(lengths.values())
        assert (np.diff(edges) > 0).all()
        assert edges[0] <= min(lengths) + 1 <= max(lengths) + 1 <= edges[-1]


def test_tokens_are_ranked_by_their_uses_and_those_without_have_no_rank():
    ranks, uses = ranked_uses(TALLIES.token_uses)
    assert (ranks.tolist(), uses.tolist()) == ([1, 2, 3], [9, 5, 1])
    ranks, uses = ranked_uses(np.arange(50_000, dtype=np.int64))
    assert (ranks[0], uses[0]) == (1, 49_999)
    assert (ranks[-1], uses[-1]) == (49_999, 1)
    assert len(ranks) <= record_charts.MOST_RANKS


def test_an_image_has_three_charts_and_equal_tallies_give_equal_bytes(tmp_path):
    images = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for image in images:
        require_drawable(str(image))
        write_statistics_image(str(image), TALLIES)
    assert images[0].read_bytes() == images[1].read_bytes()
    text = images[0].read_text()
    for label in ("tokens of a document", "rank of a token", "documents that a record has parts of"):
        assert label in text
    write_statistics_image(str(tmp_path / "a.png"), TALLIES)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_an_image_that_exists_or_is_of_another_kind_is_refused_before_records_are_read(tmp_path):
    (tmp_path / "a.svg").write_text("mine")
    with pytest.raises(UserError, match=r"--plot must be a new file, and .*a.svg exists"):
        require_drawable(str(tmp_path / "a.svg"))
    with pytest.raises(UserError, match=r"--plot must end in .svg or .png"):
        require_drawable(str(tmp_path / "a.jpg"))
