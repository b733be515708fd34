"""Work with keys, as it runs in a process of its own (`devices.private_child`): one job in, one answer out."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path

from expunge_agent.devices.private_child import swap_risk
from expunge_agent.errors import DocumentError, ExpungeError, VerificationError
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Frozen, Name, PathText, Text, Timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.vault import keystore, objects, session
from expunge_agent.vault.change import finish, rotate
from expunge_agent.vault.header import Header, open_label
from expunge_agent.vault.holders.port import HolderSettings
from expunge_agent.vault.keystore import Unlocked
from expunge_agent.vault.locks import in_use
from expunge_agent.vault.secret import Secret
from expunge_agent.vault.session import Place, Session
from expunge_agent.vault.story import STDOUT, UNSAID, Export
from expunge_agent.vault.words import new_id


class Job(Frozen, frozen=True):
    """``folder`` of the vault, ``known`` of this machine (`session.Place`). ``source``, ``sink`` and
    ``progress``: open descriptors, −1 where there is none; ``passphrase``: one from which it is read, once. ``path``: where an object is to go, empty for
    ``sink``. ``environment``: for the library of a token. Other fields as the work needs them."""

    folder: PathText
    known: PathText
    now: Timestamp
    passphrase: int
    environment: dict[str, str] = {}
    holder: HolderSettings | None = None
    vault: Text = ""
    subject: Text = ""
    shred: Text = ""
    order: Text = ""
    object: Text = ""
    label: Text = ""
    chunk: int = 0
    source: int = -1
    sink: int = -1
    progress: int = -1
    path: PathText = ""
    replace: bool = False
    record: bool = True
    by: Name = "-"


class Answer(Frozen, frozen=True):
    """What a job found: bytes of plaintext, labels by object, what was wrong with which object."""

    bytes: U64 = U64(0)
    labels: dict[str, str] = {}
    sound: int = 0
    wrong: list[str] = []


def _working(do: Callable[[Job, Secret], Answer]) -> Callable[[bytes], bytes]:
    """A job as bytes in, its answer as bytes out; the passphrase is read once, and zeroed at the end."""

    @wraps(do)
    def work(data: bytes) -> bytes:
        job = canonical.loads(data, Job, "job")
        os.environ.update(job.environment)
        secret = Secret.from_pipe(job.passphrase)
        try:
            return canonical.dumps(do(job, secret))
        finally:
            secret.wipe()

    return work


@_working
def create(job: Job, secret: Secret) -> Answer:
    """Make a vault."""
    if job.holder is None:
        raise AssertionError("no holder named")
    place = Place(Path(job.folder), Path(job.known))
    session.create(place, job.holder, job.vault, lambda: secret.view, job.now)
    return Answer()


@_working
def put(job: Job, secret: Secret) -> Answer:
    """Seal what comes from ``source`` as ``object`` of ``subject``."""
    with ExitStack() as stack:
        with _held(job, secret) as held:
            unlocked = held.add_subject(job.subject)
            entry = held.entry(job.subject)
            data_key = unlocked.data_key(entry)
            stack.enter_context(in_use(held.folder))
        source = stack.enter_context(io.FileIO(job.source, "rb"))
        total = objects.put_object(
            held.folder,
            entry,
            data_key,
            source,
            vault=held.vault,
            object_id=job.object,
            label=job.label,
            chunk=job.chunk,
            now=job.now,
            progress=_progress(job),
        )
    return Answer(bytes=U64(total))


@_working
def get(job: Job, secret: Secret) -> Answer:
    """Open ``object`` into ``path`` or ``sink``. That it is given out is journalled before, and the keystore knows
    of that record before the first byte goes."""
    export = ""
    with ExitStack() as stack:
        source, top, raw = stack.enter_context(objects.opened(Path(job.folder), job.object))
        try:
            with _sink(job) as sink:
                with _held(job, secret) as held:
                    unlocked = _unlocked_for(held, top)
                    data_key = unlocked.data_key(objects.owner(unlocked.store, top))
                    export = _given_out(held, unlocked, top, job)
                    stack.enter_context(in_use(held.folder))
                total = objects.get_object(source, top, raw, data_key, sink, _progress(job))
        except ExpungeError:
            if export:
                with _held(job, secret) as held:
                    held.record("export-broken-off", export=export)
            raise
    return Answer(bytes=U64(total))


@_working
def change(job: Job, secret: Secret) -> Answer:
    """Rotate the root key, or shred the key ``shred``; a change that broke off is finished first."""
    with _held(job, secret, finishing=False) as held:
        done = finish(held)
        if done is None or done.shred != job.shred or not job.shred:
            rotate(held, job.shred, job.subject, job.order)
    return Answer()


@_working
def labels(job: Job, secret: Secret) -> Answer:
    """What the owner calls each object."""
    found: dict[str, str] = {}
    with _held(job, secret) as held:
        unlocked = held.unlock()
        for top in objects.headers(held.folder):
            if isinstance(top, Header) and (entry := unlocked.store.by_key(top.key)) and entry.wrapped:
                label = open_label(unlocked.data_key(entry), top)
                found[top.object] = "(does not open)" if label is None else label
    return Answer(labels=found)


@_working
def check(job: Job, secret: Secret) -> Answer:
    """Open every object of every living subject, and keep nothing."""
    wrong: list[str] = []
    sound, total = 0, 0
    tell = _progress(job)
    with ExitStack() as stack:
        with _held(job, secret) as held:
            unlocked = held.unlock()
            stack.enter_context(in_use(held.folder))
        for top in objects.headers(held.folder):
            if not isinstance(top, Header):
                wrong.append(top.message)
                continue
            try:
                entry = objects.owner(unlocked.store, top)
                if not entry.wrapped:
                    continue
                with objects.opened(held.folder, top.object) as (source, again, raw), _Nowhere() as sink:
                    key = unlocked.data_key(entry)
                    before = total
                    total += objects.get_object(
                        source,
                        again,
                        raw,
                        key,
                        sink,
                        lambda done, before=before: tell(before + done),  # type: ignore[misc]
                    )
                    sound += 1
            except (VerificationError, DocumentError) as error:
                wrong.append(f"Object {top.object}: {error.message}")
    return Answer(bytes=U64(total), sound=sound, wrong=wrong[:1000])


class _Nowhere(io.RawIOBase):
    """Takes everything and keeps nothing."""

    def write(self, data: object, /) -> int:
        return len(memoryview(data))  # type: ignore[arg-type]


@contextmanager
def _held(job: Job, secret: Secret, *, finishing: bool = True) -> Iterator[Session]:
    place = Place(Path(job.folder), Path(job.known))
    with session.session(place, lambda: secret.view, job.now) as held:
        if not held.story.swappable and (risk := swap_risk()):
            held.record("swappable", why=risk)
        if finishing:
            finish(held)
        yield held


@contextmanager
def _sink(job: Job) -> Iterator[io.FileIO]:
    if job.path:
        with objects.appearing(Path(job.path), replace=job.replace) as sink:
            yield sink
    else:
        with io.FileIO(job.sink, "wb") as sink:
            yield sink


def _unlocked_for(held: Session, top: Header) -> Unlocked:
    store = held.shelf.current()
    objects.owner(store, top)
    held.entry(top.subject)
    return held.unlock(store)


def _given_out(held: Session, unlocked: Unlocked, top: Header, job: Job) -> str:
    """Write down that plaintext goes out; the id of the record."""
    where, by = (job.path or STDOUT, job.by) if job.record else (UNSAID, "-")
    export = Export(id=new_id(), object=top.object, key=top.key, where=where, at=job.now, by=by)
    held.record("exported", export=export)
    held.shelf.put(keystore.witnessing(unlocked, held.witness()).store)
    return export.id


def _progress(job: Job) -> Callable[[int], None]:
    """Tells whoever reads the pipe how many bytes are through; eight bytes at a time, so none is torn."""
    if job.progress < 0:
        return lambda _: None

    def tell(done: int) -> None:
        os.write(job.progress, done.to_bytes(8, "big"))

    return tell
