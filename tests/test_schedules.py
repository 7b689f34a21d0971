import dataclasses

import pytest

from mpt_keras import schedules


def test_constant():
    assert schedules.Constant(0.3)(0) == schedules.Constant(0.3)(99) == 0.3


def test_the_authors_ramp():
    ramp = schedules.Polynomial(0.5, 0.95, end=10)
    published = [
        *(0.5, 0.6220, 0.7196, 0.7956, 0.8528, 0.8937),
        *(0.9212, 0.9378, 0.9464, 0.9496, 0.95),
    ]
    # The published row is cut or rounded to four places.
    for epoch, sparsity in enumerate(published):
        assert ramp(epoch) == pytest.approx(sparsity, abs=1e-4)
    assert ramp(250) == 0.95


@pytest.mark.parametrize(
    ("schedule", "final"),
    [
        (schedules.Constant(0.3), 0.3),
        (schedules.Polynomial(0.5, 0.9, end=10), 0.9),
        (schedules.Piecewise((10, 20), (0.2, 0.5, 0.8)), 0.8),
        (lambda epoch: 0.5, None),
    ],
)
def test_where_a_schedule_ends(schedule, final):
    assert schedules.final_sparsity(schedule) == final


def test_polynomial_between_and_beyond_its_ends():
    ramp = schedules.Polynomial(0.2, 0.6, begin=10, end=20, power=1)
    assert [ramp(t) for t in (0, 10, 20, 30)] == [0.2, 0.2, 0.6, 0.6]
    assert ramp(15) == pytest.approx(0.4)


def test_piecewise():
    steps = schedules.Piecewise((10, 20), (0.2, 0.5, 0.8))
    assert [steps(t) for t in (0, 9, 10, 19, 20, 99)] == [
        *(0.2, 0.2, 0.5, 0.5, 0.8, 0.8)
    ]


def test_schedules_are_values():
    ramp = schedules.Polynomial(0.5, 0.9, end=10)
    assert ramp == schedules.Polynomial(0.5, 0.9, 10, power=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedules.Constant(0.5).sparsity = 0.6


@pytest.mark.parametrize(
    "make",
    [
        lambda: schedules.Constant(1.0),
        lambda: schedules.Polynomial(0.0, 1.5, end=10),
        lambda: schedules.Polynomial(-0.1, 0.5, end=10),
        lambda: schedules.Polynomial(0.0, 0.5, begin=10, end=10),
        lambda: schedules.Piecewise((10,), (0.2,)),
        lambda: schedules.Piecewise((20, 10), (0.2, 0.3, 0.4)),
        lambda: schedules.Piecewise((10,), (0.2, 1.2)),
    ],
)
def test_impossible_schedules_are_refused(make):
    with pytest.raises(ValueError, match="Received"):
        make()
