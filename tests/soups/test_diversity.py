"""Distances between candidates and overlap of masks: known figures in closed form."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.soups.diversity import distances, gram, mask_overlap


def of(*candidates):
    return distances(gram(torch.tensor(candidates)))


@pytest.mark.parametrize("m", range(2, 11))
def test_points_at_equal_distance_lie_as_far_from_their_mean_as_geometry_says(m):
    simplex = torch.eye(m) * 3 + 10  # shifted: the origin does not matter
    found = distances(gram(simplex))
    d = 3 * math.sqrt(2)
    assert found["l2_mean"] == pytest.approx(d)
    assert found["l2_max"] == pytest.approx(d)
    assert found["barycentre_mean"] == pytest.approx(d * math.sqrt((m - 1) / (2 * m)))


def test_orthogonal_vectors_are_at_right_angles():
    found = distances(gram(torch.diag(torch.tensor([1.0, 2.0, 30.0]))))
    assert found["angle_mean"] == pytest.approx(90)
    assert found["angle_max"] == pytest.approx(90)


@pytest.mark.parametrize("degrees", [0, 1, 45, 120, 180])
def test_angles_are_in_degrees_and_do_not_depend_on_length(degrees):
    t = math.radians(degrees)
    found = of([2.0, 0.0], [7 * math.cos(t), 7 * math.sin(t)])
    assert found["angle_mean"] == pytest.approx(degrees, abs=1e-5)


def test_mean_and_largest_are_over_pairs():
    found = of([0.0, 0.0], [3.0, 4.0], [6.0, 8.0])
    assert found["l2_mean"] == pytest.approx(20 / 3)
    assert found["l2_max"] == pytest.approx(10)
    assert found["barycentre_mean"] == pytest.approx(10 / 3)


def test_of_a_single_candidate_all_is_zero():
    assert set(of([1.0, 2.0, 3.0]).values()) == {0.0}


def test_equal_candidates_are_at_distance_zero():
    found = of(*[[0.1, 0.2, 0.3]] * 4)
    assert all(math.isfinite(value) for value in found.values())
    assert found["l2_max"] == pytest.approx(0, abs=1e-7)
    assert found["angle_max"] == pytest.approx(0, abs=1e-5)


def test_rounding_of_the_inner_products_leaves_every_figure_finite():
    noisy = 1 + torch.tensor([[0.0, 1.0], [1.0, -1.0]], dtype=torch.float64) * 1e-15
    assert all(0 <= value < 1e-5 for value in distances(noisy).values())


def test_a_candidate_of_zeros_leaves_every_figure_finite():
    assert all(math.isfinite(value) for value in of([0.0, 0.0], [1.0, 0.0]).values())


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.lists(st.integers(0, 40), max_size=4), st.integers(0, 1000))
def test_inner_products_of_slices_add_up_to_those_of_the_whole(m, cuts, seed):
    points = torch.randn(m, 40, generator=torch.Generator().manual_seed(seed))
    parts = sum(gram(piece) for piece in points.tensor_split(sorted(cuts), dim=1))
    torch.testing.assert_close(parts, gram(points))
    assert gram(points).dtype == torch.float64
    direct = torch.cdist(points.double(), points.double())
    assert distances(parts)["l2_max"] == pytest.approx(float(direct.max()), abs=1e-6)


def test_the_relative_distance_is_in_units_of_the_norm():
    points = torch.eye(4, dtype=torch.float64)
    assert distances(gram(points))["l2_relative"] == pytest.approx(math.sqrt(2))
    assert distances(gram(7 * points))["l2_relative"] == pytest.approx(math.sqrt(2))
    assert of([2.0, 0.0], [6.0, 0.0])["l2_relative"] == pytest.approx(4 / math.sqrt(12))


def masks(*rows):
    """Two tensors each, so that what is counted is all of them together."""
    bits = [torch.tensor([c == "1" for c in row]) for row in rows]
    return [{"a": row[:3], "b": row[3:].view(1, -1)} for row in bits]


def test_overlap_is_intersection_over_union_of_all_weights_together():
    found = mask_overlap(masks("11110000", "11001100", "11110000"))
    assert found["iou_mean"] == pytest.approx((1 / 3 + 1 + 1 / 3) / 3)
    assert found["iou_min"] == pytest.approx(1 / 3)
    assert found["union_sparsity"] == pytest.approx(2 / 8)


def test_equal_masks_overlap_wholly_and_disjoint_ones_not_at_all():
    assert mask_overlap(masks("1010", "1010", "1010"))["iou_mean"] == 1
    assert mask_overlap(masks("1100", "0011"))["iou_mean"] == 0


def test_a_mask_overlaps_with_itself_alone_and_an_empty_one_with_an_empty_one():
    assert mask_overlap(masks("1100")) == {"iou_mean": 1, "iou_min": 1, "union_sparsity": 0.5}
    assert mask_overlap(masks("0000", "0000"))["iou_min"] == 1


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(0, 1000))
def test_a_union_is_never_sparser_than_any_of_its_masks(num, seed):
    drawn = torch.rand(num, 2, 12, generator=torch.Generator().manual_seed(seed)) < 0.4
    several = [{"a": a, "b": b} for a, b in drawn]
    found = mask_overlap(several)
    sparsities = [1 - float(mask.double().mean()) for mask in drawn]
    assert found["union_sparsity"] <= min(sparsities) + 1e-12
    assert 0 <= found["iou_min"] <= found["iou_mean"] <= 1
