"""nbdkit plugin: two disks with a volatile write cache that lose their power at the same instant.

A write goes to the cache and a flush makes all earlier ones durable, as on a real disk. At a write that the
seed decides, counted over both disks once RIG/armed is there, the power fails: what is durable goes to
RIG/<disk>.after, with a random part of the cache, each write kept, dropped, or torn by sectors. From then on
nothing is answered but errors.

While RIG/<disk>.sick is there, writes to that disk fail that contain what stands in that file, and flushes too
if it is empty.

Environment: RIG (folder with <disk>.base, an image to begin with), SEED, WRITES (the latest write).
"""
import builtins
import errno
import os
import random

import nbdkit

API_VERSION = 2
SECTOR = 512
CHUNK = 1 << 16
RIG = os.environ["RIG"]
rng = random.Random(int(os.environ["SEED"]))
cut_at_write = rng.randint(5, int(os.environ["WRITES"]))
# How much of the cache survives this time.
survival = rng.random()
state = {"writes": 0, "cut": False, "armed": False}


class Disk:
    def __init__(self, name):
        self.path = f"{RIG}/{name}"
        with builtins.open(f"{self.path}.base", "rb") as base:
            fd = base.fileno()
            self.size = os.fstat(fd).st_size
            self.durable = bytearray(self.size)
            self.visible = bytearray(self.size)
            self.touched = set()
            at = 0
            while at < self.size:
                try:
                    at = os.lseek(fd, at, os.SEEK_DATA)
                except OSError:
                    break
                end = os.lseek(fd, at, os.SEEK_HOLE)
                data = os.pread(fd, end - at, at)
                self.put(self.durable, at, data)
                self.visible[at:end] = data
                at = end
        # What was written since the last flush.
        self.cache = []

    def put(self, image, at, data):
        image[at : at + len(data)] = data
        self.touched.update(range(at // CHUNK, (at + len(data) - 1) // CHUNK + 1))

    def lose_power(self):
        for at, data in self.cache:
            fate = rng.random()
            if fate < survival * 0.6:
                self.put(self.durable, at, data)
            elif fate < survival:
                for sector in range(0, len(data), SECTOR):
                    if rng.random() < 0.5:
                        self.put(self.durable, at + sector, data[sector : sector + SECTOR])
        with builtins.open(f"{self.path}.after", "wb") as after:
            after.truncate(self.size)
            for chunk in sorted(self.touched):
                at = chunk * CHUNK
                os.pwrite(after.fileno(), self.durable[at : at + CHUNK], at)


disks = {name: Disk(name) for name in os.environ["DISKS"].split(",")}


def fail_if_cut():
    if state["cut"]:
        nbdkit.set_error(errno.EIO)
        raise OSError(errno.EIO, "the power is off")


def fail_if_sick(disk, data):
    try:
        with builtins.open(f"{disk.path}.sick", "rb") as sick:
            pattern = sick.read()
    except FileNotFoundError:
        return
    if not pattern or (data is not None and pattern in data):
        nbdkit.set_error(errno.EIO)
        raise OSError(errno.EIO, "the disk is sick")


def count_write():
    fail_if_cut()
    if not state["armed"]:
        state["armed"] = os.path.exists(f"{RIG}/armed")
        return
    state["writes"] += 1
    if state["writes"] < cut_at_write:
        return
    state["cut"] = True
    pending = {name: len(disk.cache) for name, disk in disks.items()}
    for disk in disks.values():
        disk.lose_power()
    with builtins.open(f"{RIG}/cut.new", "w") as cut:
        cut.write(f"write {cut_at_write}, survival {survival:.2f}, in the caches {pending}")
    os.rename(f"{RIG}/cut.new", f"{RIG}/cut")
    fail_if_cut()


def thread_model():
    return nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS


def open(readonly):
    return disks[nbdkit.export_name()]


def get_size(disk):
    return disk.size


def can_flush(disk):
    return True


def can_fua(disk):
    return nbdkit.FUA_NATIVE


def can_multi_conn(disk):
    return True


def pread(disk, buf, offset, flags):
    buf[:] = disk.visible[offset : offset + len(buf)]


def pwrite(disk, buf, offset, flags):
    data = bytes(buf)
    fail_if_sick(disk, data)
    # Part of the cache when the power fails at this very write.
    disk.cache.append((offset, data))
    count_write()
    disk.visible[offset : offset + len(data)] = data
    if flags & nbdkit.FLAG_FUA:
        disk.cache.pop()
        disk.put(disk.durable, offset, data)


def zero(disk, count, offset, flags):
    pwrite(disk, bytes(count), offset, flags & nbdkit.FLAG_FUA)


def flush(disk, flags):
    fail_if_cut()
    fail_if_sick(disk, None)
    for at, data in disk.cache:
        disk.put(disk.durable, at, data)
    disk.cache.clear()
