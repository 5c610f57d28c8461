"""What a task that was lost with its worker may do next."""

import pytest

from stoker.rules.losses import is_suspect, on_last_life


@pytest.mark.parametrize(
    ("losses", "max_lost", "suspect", "alone"),
    [
        pytest.param(0, 1, False, False, id="never lost, though its first loss would bury it"),
        pytest.param(0, 3, False, False, id="never lost"),
        pytest.param(1, 3, False, False, id="one loss is no evidence"),
        pytest.param(1, 2, False, True, id="a second loss would bury it"),
        pytest.param(2, 3, True, True, id="a third loss would bury it"),
        pytest.param(2, 5, True, False, id="a suspect with lives left"),
        pytest.param(4, 5, True, True, id="a suspect on its last life"),
        pytest.param(7, 3, True, True, id="maxLost was higher before"),
    ],
)
def test_a_task_that_was_lost(losses: int, max_lost: int, suspect: bool, alone: bool) -> None:
    assert (is_suspect(losses), on_last_life(losses, max_lost)) == (suspect, alone)
