"""Sentences that agent and controller always write in the same words, with what they mean in Chinese.

The English is what was signed; a test holds it to the agent's own words. A sentence that is not here is shown as it was signed.
"""

from __future__ import annotations

from typing import Final

from expunge_controller.records.certificate import ATTESTATION
from expunge_controller.records.certify import NO_TIME
from expunge_controller.records.log_words import NO_WITNESS

IN_CHINESE: Final[dict[str, str]] = {
    ATTESTATION: "本人保证，就本人所知，本证书所载信息准确、完整。",
    NO_TIME: "时间取自机器与控制端自身的时钟，未经第三方确认。",
    NO_WITNESS: "未记入透明日志，未经独立见证：仅以此处所列代理程序与控制端的密钥为凭。",
    "The signature proves that this agent says this; it does not prove that the medium obeyed.": (
        "签名证明该代理程序作出此陈述，不证明介质确已执行。"
    ),
    "Times are those of the machine's own clock.": "时间取自该机器自身的时钟。",
    "An overwrite reaches only what the medium lets the host address: remapped sectors, "
    "over-provisioned flash and hidden areas are not covered.": (
        "覆写仅达主机可寻址的区域：重映射扇区、闪存预留空间与隐藏区域不在其内。"
    ),
    "A command of the drive reaches what the host cannot address, by the drive's own account: canaries, samples "
    "and the read-back cover only what the host can address.": (
        "设备命令可达主机无法寻址之处，但仅凭设备自述；金丝雀块、抽样与读回仅覆盖主机可寻址的区域。"
    ),
    "What a drive reads as zeros after an erase may be deallocated and still be in its cells; that keys were "
    "really discarded cannot be seen from outside.": (
        "擦除后读出为零的内容，可能只是解除分配而仍存于存储单元；密钥是否确已丢弃，无法从外部得知。"
    ),
    "Only keys were destroyed: the encrypted data stay, and whoever gets a copy of the key from elsewhere reads them. "
    "What is stated about keys was not checked, and no agent can see a copy that nobody told it of.": (
        "仅销毁了密钥，加密数据仍在，任何人从他处取得密钥副本即可读取。有关密钥的声明未经核查，未告知的副本无从得知。"
    ),
    "An overwrite of a file reaches the blocks it has and no others: copies, snapshots, backups, journals of "
    "the file system and earlier places of its data are not covered.": (
        "覆写文件仅达其现有的块：副本、快照、备份、文件系统日志及其数据的先前位置不在其内。"
    ),
    "Filling free space reaches the blocks that were free while it ran: files that exist, snapshots, the file "
    "system's own records and what others deleted meanwhile are not covered.": (
        "填充空闲空间仅达当时空闲的块：现存文件、快照、文件系统自身的记录及其间他人删除的内容不在其内。"
    ),
    "A virtual device: what its host or storage system keeps of earlier contents is not covered.": (
        "虚拟设备：其宿主或存储系统保留的先前内容不在其内。"
    ),
    "Sectors and cells the medium does not let the host address.": "介质不允许主机寻址的扇区与存储单元。",
}
