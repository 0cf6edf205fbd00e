"""The body: it means what was given, and packing neither loses nor doubles."""

import json

import orjson
from hypothesis import given
from hypothesis import strategies as st

from worker.braze import payload

# Names that are the profile's own never come this far (worker.contract refuses them).
_names = st.text(min_size=1).filter(lambda n: n not in ("external_id", "_update_existing_only"))
_values = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text(), st.floats(allow_nan=False)
).filter(lambda value: value not in (float("inf"), float("-inf")))
_meanings = st.lists(st.tuples(st.text(), st.dictionaries(_names, _values, max_size=4)), max_size=8)


def _objects(meanings, ascii_values=False):
    return [
        (
            user,
            [(name, json.dumps(value, ensure_ascii=ascii_values)) for name, value in own.items()],
        )
        for user, own in meanings
    ]


def test_the_body_is_as_documented():
    """One array, one object per user, values as they are."""
    objects = [("u1", [("vip", "true"), ("spend", "12.5")]), ("u2", [("vip", "null")])]
    assert payload.body(objects, False) == (
        b'{"attributes":[{"external_id":"u1","vip":true,"spend":12.5},'
        b'{"external_id":"u2","vip":null}]}'
    )


def test_existing_only_is_said_in_every_object():
    """With the setting no object can create a profile."""
    objects = [("u1", [("vip", "true")]), ("u2", [])]
    sent = orjson.loads(payload.body(objects, True))["attributes"]
    assert [one["_update_existing_only"] for one in sent] == [True, True]


def test_no_name_stands_twice_in_an_object():
    """Whatever is given: Braze would take one of the two, and nobody knows which."""
    objects = [("u1", [("vip", "true"), ("spend", "1"), ("vip", "null")])]
    expected = b'{"attributes":[{"external_id":"u1","vip":null,"spend":1}]}'
    assert payload.body(objects, False) == expected
    assert payload.size(objects[0], False) == len(expected) - len('{"attributes":[]}') + 1


def test_no_objects_is_an_empty_array():
    """Nothing to say is still valid."""
    assert payload.body([], True) == b'{"attributes":[]}'
    assert payload.pack([], 75, 4_000_000, True) == []


@given(_meanings, st.booleans())
def test_the_body_means_what_was_given(meanings, existing_only):
    """Any id, any name: parsing the body gives back every user and value, in order."""
    control = {"_update_existing_only": True} if existing_only else {}
    expected = [{"external_id": user, **control, **own} for user, own in meanings]
    sent = payload.body(_objects(meanings), existing_only)
    assert orjson.loads(sent) == json.loads(sent) == {"attributes": expected}


@given(_meanings, st.booleans())
def test_sizes_add_up(meanings, existing_only):
    """The size of a body is the frame and its objects, less one comma."""
    objects = _objects(meanings)
    adds = sum(payload.size(found, existing_only) for found in objects)
    frame = len(payload.body([], existing_only))
    assert len(payload.body(objects, existing_only)) == frame + adds - (1 if objects else 0)
    assert payload._bound(objects) >= frame + adds - 1


@given(_meanings, st.integers(1, 5), st.integers(1, 400), st.booleans())
def test_packing_neither_loses_nor_doubles(meanings, max_objects, max_bytes, existing_only):
    """Every object is in one group, in order; a group over the limits is one large object."""
    objects = _objects(meanings)
    groups = payload.pack(objects, max_objects, max_bytes, existing_only)
    assert [index for group in groups for index in group] == list(range(len(objects)))
    for group in groups:
        assert 1 <= len(group) <= max_objects
        written = payload.body([objects[index] for index in group], existing_only)
        assert len(written) <= max_bytes or len(group) == 1


@given(_meanings, st.integers(1, 5), st.integers(1, 400))
def test_groups_are_filled(meanings, max_objects, max_bytes):
    """No group ends while its next object would still have fitted."""
    objects = _objects(meanings)
    groups = payload.pack(objects, max_objects, max_bytes, False)
    for group in groups[:-1]:
        longer = [objects[index] for index in (*group, group[-1] + 1)]
        assert len(longer) > max_objects or len(payload.body(longer, False)) > max_bytes
