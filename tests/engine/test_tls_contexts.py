"""TLS contexts are shared: one takes tens of milliseconds of the loop and a megabyte, and a tenant may have many URLs."""

import ssl
from pathlib import Path
from urllib.parse import quote

import pytest

from stoker.redis.cluster import Cluster
from stoker.redis.connect import connect
from stoker.redis.connector import _context
from stoker.redis.url import Single, read
from tests.redis_topologies import make_certificates


def context_of(url: str) -> ssl.SSLContext:
    """As a connection to this URL has it."""
    address = read(url)
    if isinstance(address, Single):
        return _context(address.options)
    cluster = connect(url)
    assert isinstance(cluster, Cluster)
    node = cluster._nodes.startup_nodes[0]
    found = node.acquire_connection()._connection_arguments()["ssl"]
    assert isinstance(found, ssl.SSLContext)
    return found


@pytest.mark.parametrize("scheme", ["rediss", "rediss+cluster"])
def test_urls_with_the_same_options_share_one(scheme: str) -> None:
    one = context_of(f"{scheme}://a:1?client_name=a")
    assert context_of(f"{scheme}://b:2?client_name=b") is one
    assert one.verify_mode is ssl.CERT_REQUIRED
    assert one.check_hostname
    other = context_of(f"{scheme}://b:2?ssl_cert_reqs=none&ssl_min_version=772")
    assert other is not one
    assert (other.verify_mode, other.check_hostname, other.minimum_version) == (ssl.CERT_NONE, False, ssl.TLSVersion.TLSv1_3)


def test_one_that_names_files_is_read_again(tmp_path: Path) -> None:
    """They change when certificates are renewed."""
    files = make_certificates(tmp_path).folder
    url = f"rediss://a?ssl_ca_certs={files}/ca.crt&ssl_certfile={files}/client.crt&ssl_keyfile={files}/client.key"
    assert context_of(url) is not context_of(url)


def test_authorities_in_the_url_are_trusted_alone(tmp_path: Path) -> None:
    authority = (make_certificates(tmp_path).folder / "ca.crt").read_text()
    for scheme in ("rediss", "rediss+cluster"):
        found = context_of(f"{scheme}://a:1?ssl_ca_data={quote(authority)}")
        assert len(found.get_ca_certs()) == 1
