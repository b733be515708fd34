from __future__ import annotations
import os, subprocess, pytest
from pathlib import Path
from expunge_agent.protocol.canonical import U64
from support.agents import Bench
from support.trees import *
from tests.device import test_free_space as fs
MIB=1<<20

@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench.make(tmp_path / "state")

def cut(path):
    path.write_bytes((MARK + b"SLACK;") * (65536 // 27)); os.sync()
    os.truncate(path, 1000); os.sync()
    path.write_bytes if 0 else None

@pytest.mark.parametrize("kind,opts", [("ext4", ("-b","4096","-O","bigalloc","-C","65536")),("ext4",("-b","1024")),("ext4",("-O","^has_journal,bigalloc","-C","65536")),("ext4",("-O","inline_data","-I","512")),("ext4",("-O","^extents,^64bit,^has_journal"))])
def test_space(lab, bench, kind, opts):
    image, mount = lab.formatted(kind, "-F", *opts, size=96*MIB)
    (mount/"keep").mkdir()
    for i in range(10):
        cut(mount/f"keep/{i}")
        (mount/f"keep/{i}").write_bytes(b"") if 0 else None
    with open(mount/"keep/0","r+b") as f: f.write(b"x"*1000)
    fs.plant(mount)
    r = fs.run(bench, mount, reserve=U64(0))
    lab.unmount(mount)
    m = fs.marks(image)
    print(opts, r.outcome, r.exceptions, r.failure, len(m), [x//4096 for x in m[:10]], r.refusal, r.not_covered if 0 else "")

@pytest.mark.parametrize("kind,opts", [("ext4", ("-F","-b","4096","-O","bigalloc","-C","65536")),("ext4",("-F","-b","1024")),("ext4",("-F","-O","inline_data","-I","512")),("ext4",("-F","-O","^extents,^64bit")),("xfs",("-m","reflink=1,rmapbt=1")),("xfs",("-m","crc=0","-n","ftype=1")),("xfs",("-r","rtdev","-d","rtinherit=1"))])
def test_tree(lab, bench, kind, opts, tmp_path):
    if "rtdev" in opts:
        pytest.skip("rt")
    image, mount = lab.formatted(kind, *opts, size=320*MIB if kind=="xfs" else 96*MIB)
    (mount/"t").mkdir()
    for i in range(10):
        cut(mount/f"t/{i}")
    fill(mount/"t", {"a":100,"b":0,"c":5000,"big":9*MIB+3, "d/e":70000})
    with open(mount/"t/sparse","wb") as f:
        f.truncate(12*1024**4 if kind=="xfs" else 3*1024**3 if "^extents,^64bit" in opts else 6*1024**3)
        f.seek(5*1024**3 if "^extents,^64bit" not in opts else 2*1024**3); f.write(record("sparse",100_000))
    fd=os.open(mount/"t/pre",os.O_CREAT|os.O_RDWR); os.posix_fallocate(fd,0,300_000); os.pwrite(fd,record("pre",5000),100_000); os.close(fd)
    os.sync()
    r = shred(bench, tree(mount/"t"))
    lab.unmount(mount)
    print(opts, r.outcome, r.failure, r.exceptions, left(image), left(image,"SLACK"), [(x.path,x.why) for x in files_of(r).listed][:4] if r.files else r.refusal)
