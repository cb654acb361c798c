"""What a document is: canonical JSON that keeps keys in order and numbers as they were spelled; and how a patch merges."""

import pytest

from cfgsync_core import InvalidRequest
from cfgsync_documents.document import MAX_DOCUMENT_BYTES, DocumentName, Scope, at, canonical
from cfgsync_documents.merge import rfc7396, shallow


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (
            b' { "b" : 1.0 ,\n"a":[1e2, 9223372036854775808, -0] } ',
            b'{"b":1.0,"a":[1e2,9223372036854775808,-0]}',
        ),
        (b'"\\u00e4 \\/ x  y"', '"ä / x  y"'.encode()),
        (b"null", b"null"),
        (b'"a\\"b : c"', b'"a\\"b : c"'),
    ],
)
def test_blanks_go_and_order_and_spelling_of_numbers_stay(written, kept):
    assert canonical(written) == kept
    assert canonical(kept) == kept


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (b'{"a":1,"\\u0061":2}', "the key 'a' is there twice"),
        (b'[{"x":{"a":1,"a":2}}]', "the key 'a' is there twice"),
        (b"NaN", "NaN is not a JSON number"),
        (b"1e999", "number out of range"),
        (b'"\\ud800"', "a string has one half of a surrogate pair"),
        (b"\xef\xbb\xbf{}", "it begins with a byte order mark"),
        (b"9" * 5000, "a number has 5000 digits, and may have 4300"),
        (b"", "Expecting value"),
        (b"1 2", "Extra data"),
        (b"\xff", "utf-8"),
        (b"[" * 65 + b"]" * 65, "nested deeper than 64"),
    ],
)
def test_what_is_not_strict_json_is_400(written, why):
    with pytest.raises(InvalidRequest, match="contentJson must be valid JSON") as raised:
        canonical(written)
    assert raised.value.status == 400
    assert why in str(raised.value)


def test_a_document_has_at_most_512_kib_without_its_blanks():
    canonical(b" " * 1000 + b'"' + b"x" * (MAX_DOCUMENT_BYTES - 2) + b'"')
    with pytest.raises(InvalidRequest) as raised:
        canonical(b'"' + b"x" * (MAX_DOCUMENT_BYTES - 1) + b'"')
    assert raised.value.status == 413


@pytest.mark.parametrize(
    ("app", "environment", "namespace", "name", "field"),
    [
        ("", "e", "n", "x", "app"),
        ("a b", "e", "n", "x", "app"),
        ("a", "e" * 65, "n", "x", "env"),
        ("a", "e", "n/m", "x", "namespace"),
        ("a", "e", "n", "x.", "configKey"),
        ("a", "e", "n", "..", "configKey"),
        ("a", "e", "n", "x" * 129, "configKey"),
        ("ä", "e", "n", "x", "app"),
    ],
)
def test_a_wrong_word_is_400_and_named(app, environment, namespace, name, field):
    with pytest.raises(InvalidRequest) as raised:
        DocumentName.checked(Scope.checked(app, environment), namespace, name)
    assert raised.value.status == 400
    assert str(raised.value).startswith(field)


def test_the_longest_words_are_taken():
    name = DocumentName.checked(Scope.checked("a" * 128, "e" * 64), "n" * 128, "x.y_z-1")
    assert name.key == "n" * 128 + "/x.y_z-1"


def test_a_time_has_milliseconds():
    assert at(1_769_846_400_007) == "2026-01-31T08:00:00.007Z"


def test_a_shallow_merge_replaces_members_and_null_is_a_value():
    assert shallow(b'{"a":1.0,"b":{"c":1}}', b'{"b":{"d":2},"e":null}') == b'{"a":1.0,"b":{"d":2},"e":null}'


# RFC 7396, appendix A, the cases whose document and patch are objects
@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [
        (b'{"a":"b"}', b'{"a":"c"}', b'{"a":"c"}'),
        (b'{"a":"b"}', b'{"b":"c"}', b'{"a":"b","b":"c"}'),
        (b'{"a":"b"}', b'{"a":null}', b"{}"),
        (b'{"a":"b","b":"c"}', b'{"a":null}', b'{"b":"c"}'),
        (b'{"a":["b"]}', b'{"a":"c"}', b'{"a":"c"}'),
        (b'{"a":"c"}', b'{"a":["b"]}', b'{"a":["b"]}'),
        (b'{"a":{"b":"c"}}', b'{"a":{"b":"d","c":null}}', b'{"a":{"b":"d"}}'),
        (b'{"a":[{"b":"c"}]}', b'{"a":[1]}', b'{"a":[1]}'),
        (b'{"e":null}', b'{"a":1}', b'{"e":null,"a":1}'),
        (b"{}", b'{"a":{"bb":{"ccc":null}}}', b'{"a":{"bb":{}}}'),
        (b'{"a":1.0}', b'{"b":1e2}', b'{"a":1.0,"b":1e2}'),
    ],
)
def test_a_merge_patch_merges_as_the_rfc_says(document, patch, result):
    assert rfc7396(document, patch) == result
