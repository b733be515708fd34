"""The part of a certificate's page about a destroyed key: the conditions, every known copy, what can still be read."""

from __future__ import annotations

from expunge_agent.protocol.key_rules import KeyCondition
from expunge_agent.protocol.receipt_keys import KeyDestruction
from expunge_controller.render.markup import (
    Label,
    Section,
    bullets,
    fields,
    grid,
    heading,
    hint,
    number,
    section,
)

_CONDITIONS = {
    KeyCondition.VALIDATED_MODULE: Label("validated cryptographic module", "密码模块经过验证"),
    KeyCondition.KEY_STRENGTH: Label("key of 128 bits of strength or more", "密钥强度不低于 128 位"),
    KeyCondition.KEY_ENTROPY: Label("key made with as much entropy", "密钥熵充足"),
    KeyCondition.ALWAYS_ENCRYPTED: Label("nothing ever stored in plaintext", "从未以明文存储"),
    KeyCondition.KEYS_IN_REACH: Label("every place of the wrapped key within reach", "密钥存放位置均可触及"),
    KeyCondition.NO_KEY_IN_MEMORY: Label("no unwrapped copy in memory", "内存中无明文密钥"),
    KeyCondition.NO_BACKUP: Label("no backup of the header or the wrapped key", "无头部或封装密钥的备份"),
    KeyCondition.NO_ESCROW: Label("no escrow of the key", "密钥未托管"),
}
_HOLDS = {"yes": Label("yes", "是"), "no": Label("NO", "否"), "unknown": Label("UNKNOWN", "未知")}
_FATES = {
    "destroyed": Label("destroyed", "已销毁"),
    "remains": Label("REMAINS", "仍存在"),
    "unknown": Label("UNKNOWN", "未知"),
}
_HONEST = Label(
    "Only the key was destroyed; the encrypted data stay. Whoever gets a copy of the key from elsewhere can read "
    "them. A condition that is stated was not checked. Conditions are those of NIST SP 800-88 for cryptographic erase.",
    "仅销毁了密钥，加密数据仍在。任何人从他处取得密钥副本即可读取。声明的条件未经核查。条件出自 NIST SP 800-88 的加密擦除要求。",
)


def key_section(key: KeyDestruction) -> Section:
    """All of it; `key` as the receipt has it."""
    return section(
        Label("Key destruction", "密钥销毁"),
        fields(
            [
                (Label("Scheme", "加密方案"), key.scheme),
                (Label("Key", "密钥标识"), key.key),
                (Label("Generation of the key store", "密钥库代次"), number(int(key.generation))),
                (Label("Bytes of keys overwritten", "覆写的密钥区字节"), number(int(key.overwritten))),
            ]
        ),
        heading(Label("Conditions", "条件")),
        grid(
            [(40, Label("Condition", "条件")), (12, Label("Holds", "是否成立")), (48, Label("Why", "依据"))],
            [(_named(one.id), _HOLDS[one.holds], one.why) for one in key.conditions],
            Label("no condition is told", "未说明条件"),
        ),
        heading(Label("Known copies of the key", "已知密钥副本")),
        grid(
            [
                (32, Label("Where", "位置")),
                (26, Label("What", "内容")),
                (14, Label("What became of it", "结果")),
                (28, Label("Details", "说明")),
            ],
            [(one.where, one.what, _FATES[one.fate], one.detail) for one in key.copies],
            Label("none is known", "无已知副本"),
        ),
        heading(Label("What can still be read", "仍可读取的内容")),
        bullets(key.readable, Label("nothing that is known", "已知范围内没有")),
        hint(_HONEST),
    )


def _named(condition: str) -> str:
    """The condition in both languages with its own word; the word alone where it is none that is known here."""
    if condition not in list(KeyCondition):
        return condition
    label = _CONDITIONS[KeyCondition(condition)]
    return f"{label.plain} ({condition})"
