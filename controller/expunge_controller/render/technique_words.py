"""Techniques as people read them: in the words of the standard that defines the command, and its kind.

The kinds are those of NIST SP 800-88 r2 (cryptographic erase, block erase, overwrite); the names of commands
are those of the NVM Express Base Specification, ATA ACS, SCSI SBC, the TCG Storage Opal SSC and the JEDEC eMMC
and UFS standards. The Chinese names follow GB/T usage: 净化 purge, 清除 clear, 覆写 overwrite, 加密擦除 cryptographic erase.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from expunge_controller.render.markup import Label


class TechniqueWords(NamedTuple):
    """What kind of technique it is, and the command by its own name."""

    kind: Label
    command: Label

    def text(self, level: str) -> str:
        """All of it on one line without markup, after the `level` achieved in both languages."""
        return (
            f"{self.kind.english}: {self.command.english} · "
            f"{_LEVELS.get(level, '')}{self.kind.chinese}：{self.command.chinese}"
        )


_LEVELS: Final = {"purge": "净化，", "clear": "清除，"}
_CRYPTO: Final = Label("cryptographic erase", "加密擦除")
_BLOCK: Final = Label("block erase", "块擦除")
_OVERWRITE: Final = Label("overwrite by the drive", "由设备自身覆写")
_FIRMWARE: Final = Label("erase by the drive's firmware", "固件擦除")
_KEYS: Final = Label("cryptographic erase by the host, under conditions", "由主机执行的有条件加密擦除")
_HOST: Final = Label("by the host", "由主机执行")

TECHNIQUES: Final[dict[str, TechniqueWords]] = {
    "overwrite": TechniqueWords(_HOST, Label("overwrite, pass by pass", "逐遍覆写")),
    "nvme-sanitize-crypto": TechniqueWords(
        _CRYPTO, Label("NVMe Sanitize, Crypto Erase", "NVMe Sanitize 加密擦除")
    ),
    "nvme-sanitize-block": TechniqueWords(
        _BLOCK, Label("NVMe Sanitize, Block Erase", "NVMe Sanitize 块擦除")
    ),
    "nvme-sanitize-overwrite": TechniqueWords(
        _OVERWRITE, Label("NVMe Sanitize, Overwrite", "NVMe Sanitize 覆写")
    ),
    "nvme-format-crypto": TechniqueWords(
        _CRYPTO,
        Label(
            "NVMe Format NVM, Secure Erase Settings 2 (Cryptographic Erase)",
            "NVMe Format NVM，SES=2（加密擦除）",
        ),
    ),
    "nvme-format-user-data": TechniqueWords(
        _BLOCK,
        Label(
            "NVMe Format NVM, Secure Erase Settings 1 (User Data Erase)",
            "NVMe Format NVM，SES=1（用户数据擦除）",
        ),
    ),
    "ata-sanitize-crypto": TechniqueWords(
        _CRYPTO, Label("ATA Sanitize Device, CRYPTO SCRAMBLE EXT", "ATA Sanitize Device 加密扰乱")
    ),
    "ata-sanitize-block": TechniqueWords(
        _BLOCK, Label("ATA Sanitize Device, BLOCK ERASE EXT", "ATA Sanitize Device 块擦除")
    ),
    "ata-sanitize-overwrite": TechniqueWords(
        _OVERWRITE, Label("ATA Sanitize Device, OVERWRITE EXT", "ATA Sanitize Device 覆写")
    ),
    "ata-security-erase-enhanced": TechniqueWords(
        _FIRMWARE, Label("ATA SECURITY ERASE UNIT, enhanced erase mode", "ATA 安全擦除（增强模式）")
    ),
    "ata-security-erase": TechniqueWords(
        _FIRMWARE, Label("ATA SECURITY ERASE UNIT, normal erase mode", "ATA 安全擦除（普通模式）")
    ),
    "scsi-sanitize-crypto": TechniqueWords(
        _CRYPTO, Label("SCSI SANITIZE, CRYPTOGRAPHIC ERASE", "SCSI SANITIZE 加密擦除")
    ),
    "scsi-sanitize-block": TechniqueWords(
        _BLOCK, Label("SCSI SANITIZE, BLOCK ERASE", "SCSI SANITIZE 块擦除")
    ),
    "scsi-sanitize-overwrite": TechniqueWords(
        _OVERWRITE, Label("SCSI SANITIZE, OVERWRITE", "SCSI SANITIZE 覆写")
    ),
    "scsi-format-unit": TechniqueWords(_FIRMWARE, Label("SCSI FORMAT UNIT", "SCSI FORMAT UNIT 格式化")),
    "opal-psid-revert": TechniqueWords(
        _CRYPTO,
        Label(
            "TCG Opal, Revert by PSID (media encryption key replaced)",
            "TCG Opal PSID 还原（更换介质加密密钥）",
        ),
    ),
    "mmc-sanitize": TechniqueWords(_BLOCK, Label("eMMC Sanitize (SANITIZE_START)", "eMMC Sanitize 清除")),
    "mmc-secure-erase": TechniqueWords(_FIRMWARE, Label("eMMC Secure Erase", "eMMC 安全擦除")),
    "ufs-purge": TechniqueWords(
        _FIRMWARE, Label("UNMAP and UFS purge (fPurgeEnable)", "UNMAP 与 UFS 净化（fPurgeEnable）")
    ),
    "secure-discard": TechniqueWords(
        _HOST, Label("secure discard (BLKSECDISCARD)", "安全丢弃（BLKSECDISCARD）")
    ),
    "discard": TechniqueWords(_HOST, Label("discard (BLKDISCARD)", "丢弃（BLKDISCARD）")),
    "luks-erase": TechniqueWords(
        _KEYS, Label("LUKS header and all keyslots overwritten", "覆写 LUKS 头部与全部密钥槽")
    ),
    "fscrypt-key-removal": TechniqueWords(
        _KEYS, Label("fscrypt key removed, stored protectors overwritten", "移除 fscrypt 密钥并覆写其保护器")
    ),
    "zero-out": TechniqueWords(_HOST, Label("zero-out (BLKZEROOUT)", "清零（BLKZEROOUT）")),
    "vault-shred": TechniqueWords(
        _CRYPTO, Label("key of a vault's subject destroyed", "销毁保险库中数据主体的密钥")
    ),
}


def in_words(technique: str, level: str) -> str:
    """`technique` in words with its own in brackets; itself where it is none that is known here."""
    known = TECHNIQUES.get(technique)
    return f"{known.text(level)} ({technique})" if known else technique
