"""The cases that are searched: small on purpose, each with all orders of its steps."""

from __future__ import annotations

from .world import Case, Operation

_PUT = Operation(kind="put", key=0)
_DELETE = Operation(kind="delete", key=0)
_ONE = frozenset({0})

CASES = {
    "two puts on one key, a crash": Case(
        operations=(_PUT, _PUT), crashes=1, losses=True, examiners=2
    ),
    "three puts on one key": Case(operations=(_PUT, _PUT, _PUT), examiners=2),
    "put and delete, a crash": Case(
        operations=(_PUT, _DELETE), objects=(-1,), crashes=1, losses=True
    ),
    "delete of an absent key and a put, a crash": Case(
        operations=(_DELETE, _PUT), crashes=1, losses=True
    ),
    "two puts on one key, slow processes": Case(operations=(_PUT, _PUT), lapses=True, losses=True),
    "racing against a quota, a crash": Case(
        operations=(
            Operation(kind="put", key=0, size=2),
            Operation(kind="put", key=1, size=3),
            _DELETE,
        ),
        objects=(-1, None),
        quota=4,
        crashes=1,
        losses=True,
    ),
    "complete and a put, a crash": Case(
        operations=(Operation(kind="complete", key=0, choice=(0,)), _PUT),
        files=_ONE,
        references=1,
        crashes=1,
        losses=True,
    ),
    "complete and new metadata, a crash": Case(
        operations=(
            Operation(kind="complete", key=0, choice=(0,)),
            Operation(kind="copy", key=0, source=0),
        ),
        files=_ONE,
        references=1,
        crashes=1,
        losses=True,
    ),
    "an object moves while references are collected": Case(
        operations=(
            Operation(kind="copy", key=0, source=1),
            Operation(kind="delete", key=1),
        ),
        objects=(None, 0),
        files=_ONE,
        references=1,
        collections=(2,),
    ),
    "an object moves while references are collected, a crash": Case(
        operations=(
            Operation(kind="copy", key=0, source=1),
            Operation(kind="delete", key=1),
        ),
        objects=(None, 0),
        files=_ONE,
        references=1,
        collections=(2,),
        crashes=1,
    ),
    "a source changes while references are collected": Case(
        operations=(
            Operation(kind="copy", key=0, source=1),
            Operation(kind="put", key=1, choice=(0,)),
            Operation(kind="delete", key=1, after=1),
        ),
        objects=(None, -1),
        files=_ONE,
        references=1,
        collections=(2,),
    ),
    "a delta while references are collected, slow processes": Case(
        operations=(Operation(kind="put", key=0, choice=(0,)),),
        files=_ONE,
        references=1,
        collections=(2,),
        lapses=True,
        losses=True,
    ),
    "new references while references are collected, a crash": Case(
        operations=(
            Operation(kind="put", key=0, creates=0),
            Operation(kind="put", key=1, choice=(0,)),
        ),
        objects=(None, None),
        references=1,
        collections=(2,),
        crashes=1,
    ),
    "two collectors and a reference that comes back": Case(
        operations=(Operation(kind="put", key=0, creates=0),),
        files=_ONE,
        condemned=True,
        references=1,
        collections=(1, 2),
        lapsing_leases=True,
        losses=True,
    ),
    "two collectors and a reference that is in use": Case(
        operations=(),
        objects=(0,),
        files=_ONE,
        condemned=True,
        references=1,
        collections=(1, 2),
        lapsing_leases=True,
    ),
    "a bucket is deleted under two puts, a crash": Case(
        operations=(
            Operation(kind="put", key=0, choice=(0,)),
            Operation(kind="put", key=1, creates=0),
        ),
        objects=(None, None),
        files=_ONE,
        references=1,
        crashes=1,
        losses=True,
        deletes_bucket=True,
    ),
    "a bucket is deleted under a slow process": Case(
        operations=(Operation(kind="put", key=0, choice=(0,)),),
        files=_ONE,
        references=1,
        lapses=True,
        losses=True,
        deletes_bucket=True,
    ),
}
