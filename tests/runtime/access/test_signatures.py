"""A signature is for one node, one generation and one digest, by a key that the node trusts; all else is refused with its reason."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from securesystemslib.dsse import Envelope

from cfgsync_core import IntegrityError
from cfgsync_core.node import NotSigned
from cfgsync_core.store.epoch import uuid7
from cfgsync_runtime import InputError, Signer, Verifier
from cfgsync_runtime.access.signatures import changed_since_signed, make_key_pair

GENERATION = f"{uuid7(1_000_000)}.5"
DIGEST, OTHER = f"sha256-{'0' * 64}", f"sha256-{'1' * 64}"


@pytest.fixture
def keys(tmp_path: Path) -> tuple[str, str]:
    """Two private keys; `.pub` is beside each."""
    files = (str(tmp_path / "ours.key"), str(tmp_path / "theirs.key"))
    for file in files:
        make_key_pair(file)
    return files


def test_what_was_signed_is_taken_and_nothing_else(keys: tuple[str, str]) -> None:
    sign, verify = Signer(keys[0]), Verifier([f"{keys[0]}.pub"])
    text = sign("node-1", GENERATION, DIGEST)
    assert verify(text, "node-1", GENERATION, DIGEST) == 0
    for claimed, why in [
        (("node-2", GENERATION, DIGEST), "is for node node-1, not for node-2"),
        (
            ("node-1", GENERATION + "0", DIGEST),
            f"is for generation {GENERATION}, the answer names {GENERATION}0",
        ),
        (("node-1", None, DIGEST), f"is for generation {GENERATION}, the answer names none"),
        (("node-1", GENERATION, OTHER), f"is for files with digest {DIGEST}, these have {OTHER}"),
    ]:
        with pytest.raises(IntegrityError, match=f"the signature {why}"):
            verify(text, *claimed)
    with pytest.raises(IntegrityError, match="the files are not signed"):
        verify(None, "node-1", GENERATION, DIGEST)
    with pytest.raises(IntegrityError, match=f"signed by key {Signer(keys[1]).key_id[:16]}"):
        verify(Signer(keys[1])("node-1", GENERATION, DIGEST), "node-1", GENERATION, DIGEST)


def test_one_of_two_keys_is_enough_so_that_a_fleet_can_change_its_key(keys: tuple[str, str]) -> None:
    both = Verifier([f"{key}.pub" for key in keys])
    for key in keys:
        both(Signer(key)("node-1", GENERATION, DIGEST), "node-1", GENERATION, DIGEST)


def test_a_verifier_trusts_the_keys_that_are_in_its_files_now(keys: tuple[str, str], tmp_path: Path) -> None:
    first, second = tmp_path / "1.pub", tmp_path / "2.pub"
    ours, theirs = (Path(f"{key}.pub").read_bytes() for key in keys)
    old, new = (Signer(key)("node-1", GENERATION, DIGEST) for key in keys)
    for file in (first, second):
        file.write_bytes(ours)
    verify = Verifier([str(first), str(second)])
    verify(old, "node-1", GENERATION, DIGEST)
    with pytest.raises(IntegrityError, match="this node trusts"):
        verify(new, "node-1", GENERATION, DIGEST)
    second.write_bytes(theirs)
    for text in (old, new):
        verify(text, "node-1", GENERATION, DIGEST)
    first.unlink()
    verify(new, "node-1", GENERATION, DIGEST)
    with pytest.raises(IntegrityError, match="this node trusts"):
        verify(old, "node-1", GENERATION, DIGEST)
    second.write_text("cut off")
    with pytest.raises(IntegrityError, match="this node trusts no key"):
        verify(new, "node-1", GENERATION, DIGEST)


def test_no_byte_of_a_signature_can_be_changed(keys: tuple[str, str]) -> None:
    text = Signer(keys[0])("node-1", GENERATION, DIGEST)
    verify = Verifier([f"{keys[0]}.pub"])
    whole = json.loads(base64.b64decode(text))
    parts = {"payload": whole, "sig": whole["signatures"][0]}
    refused = 0
    for name, owner in parts.items():
        kept = owner[name]
        raw = base64.b64decode(kept)
        for at in range(len(raw)):
            owner[name] = base64.b64encode(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]).decode()
            with pytest.raises(IntegrityError, match="is not genuine"):
                verify(base64.b64encode(json.dumps(whole).encode()).decode(), "node-1", GENERATION, DIGEST)
            refused += 1
        owner[name] = kept
    assert refused == len(base64.b64decode(whole["payload"])) + 64


@pytest.mark.parametrize(
    "text",
    [
        *("", "?", "{}", "é", "e30=", base64.b64encode(b"[" * 5_000).decode()),
        base64.b64encode(b'{"payload":"","payloadType":"","signatures":[]}').decode(),
        base64.b64encode(b'{"payload":"?","payloadType":"","signatures":[{"keyid":"a","sig":"?"}]}').decode(),
    ],
    ids=range(8),
)
def test_what_is_no_envelope_is_refused_in_one_line(keys: tuple[str, str], text: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        Verifier([f"{keys[0]}.pub"])(text, "node-1", GENERATION, DIGEST)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "statement"),
    [
        ("text/plain", {"digest": DIGEST, "generation": GENERATION, "identifier": "node-1"}),
        ("application/vnd.cfgsync.files+json", {"digest": DIGEST, "identifier": "node-1"}),
    ],
)
def test_a_trusted_key_that_signed_something_else_signs_no_files(
    keys: tuple[str, str], kind: str, statement: dict[str, str]
) -> None:
    envelope = Envelope(json.dumps(statement).encode(), kind, {})
    envelope.sign(Signer(keys[0])._signer)
    text = base64.b64encode(json.dumps(envelope.to_dict()).encode()).decode()
    with pytest.raises(IntegrityError, match=r"is of text/plain|signs something else"):
        Verifier([f"{keys[0]}.pub"])(text, "node-1", GENERATION, DIGEST)


def test_a_bundle_goes_only_forward_by_its_signed_revision(keys: tuple[str, str]) -> None:
    sign, verify = Signer(keys[0]), Verifier([f"{keys[0]}.pub"], revision=7)
    assert verify(sign("node-1", "7", DIGEST), "node-1", None, DIGEST) == 7
    assert verify(sign("node-1", "12", DIGEST), "node-1", None, DIGEST) == 12
    with pytest.raises(
        IntegrityError, match="is for revision 7 of the bundle, and this node has seen revision 12"
    ):
        verify(sign("node-1", "7", DIGEST), "node-1", None, DIGEST)
    with pytest.raises(IntegrityError, match="is for generation 13, the answer names"):
        verify(sign("node-1", "13", DIGEST), "node-1", GENERATION, DIGEST)


def test_an_answer_is_signed_once_and_another_one_anew(keys: tuple[str, str]) -> None:
    sign = Signer(keys[0])
    first = sign("node-1", GENERATION, DIGEST)
    assert sign("node-1", GENERATION, DIGEST) is first
    assert sign("node-2", GENERATION, DIGEST) != first
    assert sign("node-1", GENERATION, OTHER) != first


def test_a_key_pair_is_for_its_owner_only_and_never_overwritten(tmp_path: Path) -> None:
    key = tmp_path / "signing.key"
    name = make_key_pair(str(key))
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert Signer(str(key)).key_id == name
    before = key.read_bytes()
    with pytest.raises(InputError, match="no key is overwritten"):
        make_key_pair(str(key))
    key.unlink()
    with pytest.raises(InputError, match="no key is overwritten"):
        make_key_pair(str(key))
    assert not key.exists()
    assert b"PRIVATE" in before


def test_a_file_may_hold_several_keys_and_what_is_wrong_with_one_is_named(
    keys: tuple[str, str], tmp_path: Path
) -> None:
    ours, theirs = (Path(f"{key}.pub").read_text() for key in keys)
    both = tmp_path / "both.pub"
    for text in (ours + theirs, f"of 2025\n{theirs}\r\n# and\n{ours.strip()}"):
        both.write_text(text)
        for key in keys:
            Verifier([str(both)])(Signer(key)("node-1", GENERATION, DIGEST), "node-1", GENERATION, DIGEST)
    for second, why in (
        (Path(keys[0]).read_text(), "the entry 2 in it holds a private key"),
        (theirs[:40], "the entry 2 in it holds no whole key"),
        (theirs.replace("MCow", "MCox"), "the entry 2 in it holds no public Ed25519 key"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            "holds no public key, but a CERTIFICATE",
        ),
    ):
        both.write_text(ours + second)
        with pytest.raises(InputError, match=why):
            Verifier([str(both)])


def test_the_advice_fits_the_reason(keys: tuple[str, str]) -> None:
    sign, verify = Signer(keys[0]), Verifier([f"{keys[0]}.pub"], revision=7)
    for signature, node, hint in (
        (sign("node-1", "5", DIGEST), "node-1", "sign the bundle as a later revision"),
        (
            sign("node-2", "8", DIGEST),
            "node-1",
            "the key is one that this node trusts, but the signature is another",
        ),
        (sign("node-1", "8", OTHER), "node-1", "sign the bundle again after each change"),
        (Signer(keys[1])("node-1", "8", DIGEST), "node-1", "sign with a key that the node trusts"),
    ):
        with pytest.raises(NotSigned) as refused:
            verify(signature, node, None, DIGEST)
        assert refused.value.hint.startswith(hint)


def test_a_public_key_in_the_private_one_s_place_is_named_before_its_mode(keys: tuple[str, str]) -> None:
    with pytest.raises(InputError, match=r"ours.key.pub holds a public key"):
        Signer(f"{keys[0]}.pub")


def test_a_private_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "signing.key"
    make_key_pair(str(key))
    for mode in (0o640, 0o604, 0o644):
        key.chmod(mode)
        with pytest.raises(InputError, match="may be read by other users") as caught:
            Signer(str(key))
        assert caught.value.hint == f"run: chmod 600 {key}"


def test_what_is_no_key_is_refused_at_the_start_and_no_word_of_it_is_shown(tmp_path: Path) -> None:
    key = tmp_path / "signing.key"
    make_key_pair(str(key))
    canary = tmp_path / "canary"
    canary.write_text("hunter2\n")
    canary.chmod(0o600)
    empty = tmp_path / "empty"
    empty.touch(0o600)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for file in (canary, empty, pipe, tmp_path, tmp_path / "absent", f"{key}.pub"):
        with pytest.raises(InputError) as caught:
            Signer(str(file)) if str(file) != f"{key}.pub" else Verifier([str(key)])
        assert "hunter2" not in f"{caught.value} {caught.value.hint}"
    with pytest.raises(InputError, match="holds a private key"):
        Verifier([str(key)])
    for file in (canary, empty, pipe, tmp_path):
        with pytest.raises(InputError):
            Verifier([str(file)])


def test_a_key_of_another_kind_or_behind_a_password_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "k"
    password = BestAvailableEncryption(b"hunter2")
    for key, encryption, why in (
        (Ed25519PrivateKey.generate(), password, "holds no private key: Password was not given"),
        (ec.generate_private_key(ec.SECP256R1()), NoEncryption(), "holds a key that is not Ed25519"),
    ):
        file.touch(0o600)
        file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        with pytest.raises(InputError, match=why):
            Signer(str(file))
    file.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(InputError, match="holds no public Ed25519 key"):
        Verifier([str(file)])


def test_a_bundle_that_changed_after_signing_is_noticed_without_a_key(keys: tuple[str, str]) -> None:
    text = Signer(keys[0])("node-1", "7", DIGEST)
    assert changed_since_signed({"node-1": text}, {"node-1": DIGEST}) == []
    assert changed_since_signed({"node-1": text}, {"node-1": OTHER, "node-2": DIGEST}) == ["node-1", "node-2"]
    assert changed_since_signed({"node-2": text}, {"node-2": DIGEST}) == ["node-2"]
    assert changed_since_signed({"node-1": "?"}, {"node-1": DIGEST}) == ["node-1"]
