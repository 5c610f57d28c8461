"""Amounts of memory as people and Kubernetes write them."""

import pytest

from stoker.rules.units import parse_size


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", 0),
        ("1048576", 1 << 20),
        ("512MiB", 512 << 20),
        ("512Mi", 512 << 20),
        ("1.5GiB", 3 << 29),
        ("500MB", 500_000_000),
        ("2 K", 2000),
        ("64B", 64),
    ],
)
def test_an_amount_in_bytes(text: str, amount: int) -> None:
    assert parse_size(text) == amount


@pytest.mark.parametrize("text", ["", "much", "-1Mi", "1iB", "5 mebibytes", "1e3", "0x10"])
def test_what_is_no_amount_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="512MiB"):
        parse_size(text)
