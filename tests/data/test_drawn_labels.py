"""Labels of codes that are drawn again: they come back with their codes, and files that are no such set are told."""

import io
import zipfile

import numpy as np
import pytest

from moe_mheight import DataError, m_height
from moe_mheight.data import drawn_labels
from moe_mheight.data.drawn_labels import (
    COUNT,
    LONG_KINDS,
    DrawnBatch,
    draw_batch,
    kind_of,
    read_batches,
    write_batches,
)

GROUP = (12, 6, 4)


def batches(count=3, seed=5):
    return [
        DrawnBatch(seed + number, number, GROUP, kind_of(seed, number), np.linspace(2.0, 3.0 + number, COUNT))
        for number in range(count)
    ]


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "labels.npz"
    write_batches(path, batches())
    return path


def test_what_is_written_comes_back(written):
    found = list(read_batches(written))
    assert len(found) == 3
    for (batch, P), wanted in zip(found, batches(), strict=True):
        assert batch[:4] == wanted[:4]
        np.testing.assert_array_equal(batch.h, wanted.h)
        np.testing.assert_array_equal(P, draw_batch(*wanted[:4]))
        assert P.shape == (COUNT, 6, 6)
    before = written.read_bytes()
    write_batches(written, [batch for batch, _ in found])
    assert [batch[:4] for batch, _ in read_batches(written)] == [batch[:4] for batch in batches()]
    assert len(written.read_bytes()) == len(before)


def test_infinite_heights_and_no_batches(tmp_path):
    path = tmp_path / "labels.npz"
    write_batches(path, [batches(1)[0]._replace(h=np.full(COUNT, np.inf))])
    assert np.isinf(next(read_batches(path))[0].h).all()
    write_batches(path, [])
    assert list(read_batches(path)) == []


def test_batches_differ_and_kinds_have_their_shares():
    assert not np.array_equal(draw_batch(1, 2, GROUP, "normal"), draw_batch(1, 3, GROUP, "normal"))
    assert not np.array_equal(draw_batch(1, 2, GROUP, "normal"), draw_batch(2, 2, GROUP, "normal"))
    kinds = [kind_of(0, number) for number in range(2000)]
    for kind, share in zip(LONG_KINDS, drawn_labels.SHARES, strict=True):
        assert abs(np.mean([kind == one for one in kinds]) - share) < 0.04


def npz(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def changed(**columns):
    """A set of two batches with other columns; None leaves one out."""
    arrays = {
        "seed": np.zeros(2, np.uint32),
        "number": np.zeros(2, np.uint32),
        "group": np.array([GROUP, GROUP], np.uint8),
        "kind": np.zeros(2, np.uint8),
        "digest": np.zeros(2, np.uint32),
        "h": np.full((2, COUNT), 2.0),
    } | columns
    return npz(**{name: array for name, array in arrays.items() if array is not None})


def an_array():
    content = io.BytesIO()
    np.save(content, np.ones(3))
    return content.getvalue()


def cut():
    content = changed()
    return content[: len(content) // 2]


def torn():
    """A member whose compressed bytes are none."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("seed.npy", b"x" * 1000)
    return content.getvalue().replace(b"\x78", b"\x00")


NO_SETS = {
    "empty": b"",
    "text": b"labels",
    "cut short": cut(),
    "an array": an_array(),
    "torn": torn(),
    "other arrays": npz(P=np.ones(3)),
    "no seed": changed(seed=None),
    "no heights": changed(h=None),
    "objects": npz(seed=np.array([{}], object)),
    "lengths": changed(number=np.zeros(3, np.uint32)),
    "one seed": changed(seed=np.array(0)),
    "wide groups": changed(group=np.zeros((2, 4), np.uint8)),
    "few heights": changed(h=np.ones((2, 3))),
    "no group": changed(group=np.array([GROUP, (12, 6, 7)], np.uint8)),
    "long": changed(group=np.array([GROUP, (65, 6, 7)], np.uint8)),
    "no rows": changed(group=np.array([GROUP, (12, 0, 7)], np.uint8)),
    "kind": changed(kind=np.array([0, len(LONG_KINDS)], np.uint8)),
    "negative": changed(number=np.array([0, -1])),
    "fractions": changed(number=np.array([0.0, 0.5])),
    "low height": changed(h=np.full((2, COUNT), 0.5)),
    "nan": changed(h=np.full((2, COUNT), np.nan)),
    "text heights": changed(h=np.full((2, COUNT), "2")),
}


@pytest.mark.parametrize("name", NO_SETS)
def test_files_that_are_no_set(name, tmp_path):
    path = tmp_path / "labels.npz"
    path.write_bytes(NO_SETS[name])
    with pytest.raises(DataError, match=r"labels\.npz is not a set of drawn codes with labels"):
        list(read_batches(path))


def test_no_file(tmp_path):
    with pytest.raises(DataError, match="missing"):
        list(read_batches(tmp_path / "missing.npz"))


def test_other_codes_than_were_labelled(written, monkeypatch):
    monkeypatch.setattr(drawn_labels, "draw_batch", lambda *batch: draw_batch(*batch) + 1.0)
    with pytest.raises(DataError, match=r"draws other codes of \(12,6,4\).*label them again"):
        list(read_batches(written))


def test_the_set_that_ships_is_right(rng):
    """A few of its heights, by the exact search; none of its codes is of a group that is kept out."""
    from moe_mheight.experts.long_training import shipped_labels

    found = list(read_batches(shipped_labels()))
    for batch, _ in found:
        assert batch.group[0] % 7
        assert batch.kind in LONG_KINDS
    for place in rng.choice(len(found), 6, replace=False):
        batch, P = found[place]
        np.testing.assert_allclose(m_height(P[:2], batch.group[2]), batch.h[:2], rtol=1e-9)
