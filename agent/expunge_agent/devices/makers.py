"""Disks that are made up by a hypervisor or a storage system, known by the names they give themselves.

A LUN may claim any page that a drive has, so its name is the better witness. The names of storage systems are the INQUIRY
vendors and products (NVMe: models) that multipath-tools knows them by (libmultipath/hwtable.c); makers that
build or sell drives as well (HITACHI, IBM, FUJITSU, HP, SYNOLOGY) are told by the product.
"""

from __future__ import annotations

import re

_HYPERVISORS = (
    "QEMU", "VMWARE", "VBOX", "BHYVE", "MSFT VIRTUAL", "MSFT NVME ACCELERATOR", "VIRTUAL DISK", "VIRTUAL-DISK", "VDISK",
    "VIRTUAL HDD", "GOOGLE PERSISTENT", "AMAZON ELASTIC", "XENSRC",
)  # fmt: skip
"""Anywhere in the name."""
_STORAGE = re.compile(
    r"""(
    3PARDATA | AIX\ (VDASD|NVDISK) | COMPELNT | (COMPAQ|HPE?)\ (A6189A|HSV|LOGICAL\ VOLUME|MSA|OPEN-|P2000)
    | DATACORE | (DDN|DGC|IET|IFT)\  | DELL\ MD3 | DELLEMC[- ](ME\d|POWERSTORE) | DOTHILL | EMC\ (INVISTA|POWERMAX|SYMMETRIX) | EQLOGIC
    | (FREENAS|TRUENAS|FREEBSD)\ ISCSI | FUJITSU\ (E[23468]000|ETERNUS) | HITACHI\ (DF\d|OPEN-) | HPE\ ALLETRA
    | HUAWEI[- ](DORADO|HVS8|S[23568]|V1[568]|XSG1)
    | IBM\ (17\d\d|18\d\d|2076|2105|2107|2145|2810XIV|3303|FLASHSYSTEM|IPR|NEXTRA|RAMSAN)
    | INSPUR\ MCS | INTEL\ MULTI-FLEX | KMNRIO | LEFTHAND | LENOVO\ DE_SERIES | LINUX$ | LIO-ORG
    | (NETAPP|LSI|ENGENIO)\ INF-01-00 | NETAPP\ (LUN|ONTAP) | NEC\ DISK\ ARRAY | NEXENTA | NEXSAN | NFINIDAT | NIMBLE\ SERVER
    | NUTANIX | ORACLE\ (BLOCKVOLUME|ORACLE\ FS) | PROMISE\ (VESS|VTRAK) | PURE\ (FLASHARRAY|STORAGE) | QNAP\ ISCSI | SCST_
    | SOLIDFIR | SPDK | SUN\ (COMSTAR|STOREDGE\ 3|SUN\ STORAGE|ZFS\ STORAGE) | SYNOLOGY\ (ISCSI\ )?STORAGE | TEGILE | VIOLIN | XIOTECH | XTREMIO
    )""",
    re.VERBOSE,
)
"""At its beginning. ``Linux`` alone is what the kernel's NVMe target calls its subsystems (drivers/nvme/target/configfs.c)."""


def is_made_up(model: str, vendor: str = "") -> bool:
    """Whether a disk with this name is none that one could hold in the hand. A SCSI `model` begins with the vendor."""
    name = " ".join(f"{model} {vendor}".upper().split())
    plain = " ".join(model.upper().split())
    return any(one in name for one in _HYPERVISORS) or _STORAGE.match(plain) is not None
