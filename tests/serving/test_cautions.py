"""Settings that are seldom meant are warned of, with what mends them, and others are not."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from lossd.serving.access import entrance
from lossd.serving.cautions import OPEN, cautions
from lossd.serving.config import Config
from tests.certificates import Authority

TOKEN = "0123456789abcdef"  # noqa: S105 - nobody's
RULES = f"""
[callers.a]
may = ["compute"]
tokens = ["{TOKEN}"]
"""
PLAIN = "tokens come over the network in plain text, and whoever reads one can use it"


def said(**settings: Any) -> list[str]:
    config = Config(**settings)
    return list(cautions(config, entrance.build(config)))


def write(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def tls(folder: Path, days: float = 1, prefix: str = "tls", key: Any = None) -> dict[str, str]:
    issued = Authority().issue("server", days=days, key=key)
    certificate, private = issued.write(folder, prefix)
    return {f"{prefix}_cert": str(certificate), f"{prefix}_key": str(private)}


@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:1", "unix:/a", "unix-abstract:a"])
def test_of_the_defaults_nothing(address: str) -> None:
    assert said(address=address) == []


def test_of_an_address_that_anybody_can_call(tmp_path: Path) -> None:
    assert said(address="0.0.0.0:1") == [OPEN]
    assert said(address="0.0.0.0:1", **tls(tmp_path)) == [OPEN]  # it proves the server alone


@pytest.mark.parametrize(("setting", "content"), [("token_file", TOKEN), ("access", RULES)])
def test_of_tokens_that_others_can_read(setting: str, content: str, tmp_path: Path) -> None:
    given = {setting: write(tmp_path, "file", content)}

    (found,) = said(address="0.0.0.0:1", **given)
    assert found.startswith(PLAIN)
    assert said(**given) == []
    assert said(address="unix:/a", **given) == []
    assert said(address="0.0.0.0:1", **given, **tls(tmp_path)) == []


def test_rules_without_tokens_have_none_to_read(tmp_path: Path) -> None:
    rules = write(tmp_path, "rules", '[anonymous]\nmay = ["compute"]')

    assert said(address="0.0.0.0:1", access=rules) == []


def test_of_callers_who_cannot_prove_who_they_are(tmp_path: Path) -> None:
    rules = RULES + 'certificates = ["a"]\n[callers.b]\nmay = []\nsubjects = ["b"]\n'
    authority = Authority()
    ca = write(tmp_path, "ca", authority.certificate)
    given = {"access": write(tmp_path, "rules", rules), **tls(tmp_path)}

    by_certificate, by_subject = said(**given)
    assert "by certificates, which none can prove: set tls_client_ca" in by_certificate
    assert "by subjects, which none can prove: set jwks" in by_subject
    assert said(**given, tls_client_ca=ca) == [by_subject]


def test_of_keys_that_clients_of_grpc_do_not_take(tmp_path: Path) -> None:
    edwards = ed25519.Ed25519PrivateKey.generate()

    (found,) = said(**tls(tmp_path, key=edwards))
    assert found.startswith("tls_cert has a key of Ed25519, which clients in Python")
    assert said(**tls(tmp_path, prefix="metrics_tls", key=edwards)) == []


def test_of_messages_that_would_never_be_let_in() -> None:
    (found,) = said(max_message_bytes=2001, max_inflight_bytes=2000)

    assert "allows 2001" in found
    assert found.endswith("(TOO_LARGE): set it to 2000")
    assert said(max_message_bytes=2000, max_inflight_bytes=2000) == []


@pytest.mark.parametrize("prefix", ["tls", "metrics_tls"])
def test_of_a_certificate_that_has_expired(prefix: str, tmp_path: Path) -> None:
    (found,) = said(**tls(tmp_path, days=-3, prefix=prefix))

    assert found.startswith(f"{prefix}_cert expired on 20")


def test_of_an_authority_that_has_expired_wherever_it_stands(tmp_path: Path) -> None:
    old, new = Authority(days=-3).certificate, Authority().certificate
    given = tls(tmp_path)

    for number, content in enumerate((old, old + new, new + b"# the old one:\n" + old)):
        (found,) = said(**given, tls_client_ca=write(tmp_path, f"ca{number}", content))
        assert found.startswith("tls_client_ca has an authority that expired on 20")
    assert said(**given, tls_client_ca=write(tmp_path, "ca", new + new)) == []


MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:23 / {folder}/shared rw,relatime shared:3 - tmpfs tmpfs rw,size=1024k
24 22 0:24 / {folder}/with\\040space rw - ramfs none rw
25 23 0:25 / {folder}/shared/network rw master:1 - nfs4 host:/a rw
26 22 0:26 / {folder}/shadowed rw - tmpfs tmpfs rw
27 22 0:27 / {folder}/shadowed rw - xfs /dev/vdb rw
28 22 0:28 / {folder}/pages rw - hugetlbfs none rw
"""


@pytest.mark.parametrize(
    ("directory", "kind"),
    [
        ("shared", "tmpfs"),
        ("shared/within", "tmpfs"),
        ("with space", "ramfs"),
        ("pages", "hugetlbfs"),
        ("shared/network", "nfs4"),
        ("shadowed", "xfs"),
        ("shared, not", "ext4"),
        ("link", "ext4"),
    ],
)
def test_of_a_shared_directory_that_is_on_a_disk(
    directory: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = Path(write(tmp_path, "mountinfo", MOUNTS.format(folder=tmp_path)))
    monkeypatch.setattr("lossd.serving.cautions._MOUNTS", mounts)
    if directory == "link":
        (tmp_path / "plain").mkdir()
        (tmp_path / "shared").mkdir()
        (tmp_path / "shared" / directory).symlink_to(tmp_path / "plain")
        place = tmp_path / "shared" / directory
    else:
        place = tmp_path / directory
        place.mkdir(parents=True)

    found = said(shm_dir=str(place))
    if kind in {"tmpfs", "ramfs", "hugetlbfs"}:
        assert found == []
    else:
        (one,) = found
        assert one.startswith(f"shm_dir is on {kind}, where shared tensors may be written to a")
    assert said(shm_dir=str(tmp_path / "none")) == []  # no server starts with it
    mounts.write_text("")
    assert said(shm_dir=str(place)) == []  # not to be known
    mounts.unlink()
    assert said(shm_dir=str(place)) == []
