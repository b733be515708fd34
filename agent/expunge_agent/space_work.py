"""The filling itself: take the space, write and read back the passes, take what is left, measure."""

from __future__ import annotations

import os
from contextlib import closing, suppress
from dataclasses import dataclass

from expunge_agent.core.progress import TargetProgress
from expunge_agent.core.space import Space
from expunge_agent.core.space_progress import Filling, Part, Peak
from expunge_agent.devices import fsinfo
from expunge_agent.devices.refused import TargetRefused
from expunge_agent.devices.settling import settle
from expunge_agent.engine.direct_writes import DirectWrites
from expunge_agent.engine.extents import taken_by
from expunge_agent.engine.freemap import free_now
from expunge_agent.engine.joined import Joined
from expunge_agent.engine.own_folder import OwnFolder, sync_file_system
from expunge_agent.engine.target import Target
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_agent.protocol.receipt_space import SPARE_INODES, Rest, Taken
from expunge_agent.steps import Steps
from expunge_agent.surroundings import Surroundings
from expunge_agent.techniques.overwrite import overwrite
from expunge_agent.techniques.overwrite_work import Work, source_of
from expunge_agent.techniques.space_fill import (
    EXT4_INLINE,
    MOST_NAMES,
    SMALLEST,
    Room,
    make_names,
    name_of,
    take_rest,
    take_space,
)

KEPT_INODES = 1024
"""Inodes that are left, or 1 % if that is more, where a reserve is."""


@dataclass
class SpaceWork:
    """What is done in the hidden folder `folder` on `space`, from where the journal stands."""

    space: Space
    folder: OwnFolder
    so_far: TargetProgress
    steps: Steps
    around: Surroundings

    @staticmethod
    def is_whole(folder: OwnFolder, filling: Filling) -> bool:
        """Whether every file that was filled is still there, by inode and size."""
        for part in filling.parts:
            try:
                seen = os.stat(part.name, dir_fd=folder.fd, follow_symlinks=False)
            except OSError:
                return False
            if (seen.st_ino, seen.st_size) != (int(part.inode), int(part.size)):
                return False
        return True

    def run(self) -> None:
        """Every step that is still missing; returns early when the run is to stop. Raises OSError, EngineError."""
        if self.so_far.space.filling is None:
            self._fill()
        if self.so_far.space.filling is None or self.around.stop.is_set():
            return
        self._write()
        if not self.around.stop.is_set():
            self._measure()

    @property
    def _reserve(self) -> int:
        start = self.so_far.space.start
        return int(start.reserve) if start is not None else 0

    def _room(self) -> Room:
        return Room(self.folder.fd, self._reserve)

    def _fill(self) -> None:
        self.steps.say("taking the free space")
        names, missed = self._all_names()
        parts, ended = take_space(self.folder.fd, self._room(), self.around.stop)
        sync_file_system(self.folder.fd)
        if self.around.stop.is_set():
            return
        if not parts:
            raise TargetRefused(
                Refusal(
                    reason=Reason.EMPTY,
                    detail="The file system gave no space to a new file, though it counts some as free.",
                    remedy="Look for a quota on its folder.",
                )
            )
        filling = Filling(
            parts=parts, ended=ended, names=U64(names), taken=self._lie(parts), missed=U64(missed)
        )
        self.steps.write("space-filled", filling=filling)

    def _all_names(self) -> tuple[int, int]:
        """Use up the inodes that lie ready: (names that stay, inodes that were not made anew).

        A few are given back, for the files that take the space; that they were made anew emptied them.
        """
        made = self._make_names(0, self._names())
        missed = max(0, self._inodes())
        stay = max(0, made - max(0, SPARE_INODES - missed))
        for number in range(stay, made):
            os.unlink(name_of(number), dir_fd=self.folder.fd)
        sync_file_system(self.folder.fd)
        return stay, missed

    def _names(self) -> int:
        """How many names to make: as many as there are inodes lying ready, but for those that are kept."""
        free, keep = self._inodes(), 0
        if self._reserve and self._kind == "ext4":  # it has no more than it was made with, for others too
            keep = max(KEPT_INODES, free // 100)
        return max(0, free - keep)

    def _make_names(self, first: int, most: int) -> int:
        content = EXT4_INLINE if "inline_data" in self.space.features else 0
        return make_names(self.folder.fd, first, most, self._room(), self.around.stop, content=content)

    @property
    def _kind(self) -> str:
        return self.space.identity.filesystem

    def _write(self) -> None:
        """The passes, and reading back, over all filling files as one target."""
        filling, plan = self.so_far.space.filling, self.so_far.plan
        if filling is None or plan is None:
            raise AssertionError("written before it was filled and planned")
        parts: list[Target] = []
        try:
            for part in filling.parts:
                fd = self._open(part.name, os.O_RDWR)
                try:
                    kind = DirectWrites if self._kind == "btrfs" else Target
                    parts.append(kind(fd, int(part.size), block=SMALLEST))
                except BaseException:
                    os.close(fd)
                    raise
            target = Joined(parts)
        except BaseException:
            for one in parts:
                one.close()
            raise
        with closing(target):
            overwrite(
                Work(
                    target=target,
                    plan=plan,
                    so_far=self.so_far,
                    recorder=self.steps,
                    recheck=self._recheck,
                    now=self.around.now,
                    tuning=self.around.tuning,
                    checkpoint_seconds=self.around.checkpoint_seconds,
                    stop=self.around.stop,
                    pace=self.around.pace,
                    patience=self.around.patience,
                )
            )

    def _recheck(self) -> None:
        if not self.folder.in_place():
            raise TargetRefused(
                Refusal(
                    reason=Reason.IDENTITY_MISMATCH,
                    detail="The hidden folder was moved or removed while it was filled.",
                    remedy="Keep others from the file system's top folder, and order it anew.",
                )
            )

    def _measure(self) -> None:
        """Take what is left, and see how much nobody could be given."""
        filling = self.so_far.space.filling
        if filling is None or self.so_far.space.peak is not None:
            return
        self.steps.say("taking what is left in small pieces")
        wanted = {part.name for part in filling.parts}
        names_before = int(filling.names)
        # What an earlier run took at its end is taken anew: nobody knows how far it came.
        self.folder.drop(
            lambda name: name not in wanted and (name[0] != "n" or int(name[1:], 16) >= names_before)
        )
        fd, stop = self.folder.fd, self.around.stop
        moved = self._lie(filling.parts) != filling.taken
        names = 0
        rest: Rest | None = None
        if not self._reserve and self._kind == "btrfs":
            names = make_names(fd, 0, MOST_NAMES, self._room(), stop, links=True)
            sync_file_system(fd)
        elif not self._reserve and filling.ended == "full":
            rest = self._rest(filling)
            names = self._make_names(int(filling.names), self._names())
        self._settle()
        if stop.is_set():
            return
        peak = Peak(left=free_now(fd), rest=rest, names=U64(names), inodes_left=self._inodes(), moved=moved)
        self.steps.write("space-peak", peak=peak)

    def _settle(self) -> None:
        self.steps.say("waiting until the file system has written its own records")
        with suppress(OSError):  # `core.space_limits` names those records, whatever became of them
            settle(self.folder.fd, self._kind, self.around.stop)

    def _rest(self, filling: Filling) -> Rest:
        """Small pieces, of what the file system else keeps for itself too. `clean_up` gives that back."""
        plan, kind = self.so_far.plan, self._kind
        if plan is None:
            raise AssertionError("nothing was planned")
        try:
            kept = fsinfo.spare(self.folder.fd, kind, self.space.node)
            if self.so_far.space.spare is None:
                self.steps.write("space-spare", spare=kept)
            fsinfo.set_spare(self.folder.fd, kind, self.space.node, 0)
        except OSError:
            pass  # what it keeps then stays free, and is counted
        return take_rest(
            self.folder.fd,
            self.space.block,
            [source_of(step) for step in plan.passes],
            -(-filling.size // self.space.block) * self.space.block,
            bool(plan.verify_after),
            self.around.stop,
        )

    def _inodes(self) -> int:
        try:
            return fsinfo.inodes_free(self.folder.fd, self._kind)
        except OSError:
            return -1

    def _lie(self, parts: list[Part]) -> Taken:
        """Where the filling files lie now."""
        fds: list[int] = []
        try:
            for part in parts:
                fds.append(self._open(part.name, os.O_RDONLY))
            return taken_by(fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _open(self, name: str, how: int) -> int:
        return os.open(name, how | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.folder.fd)
