"""The PDF of a certificate from the files of its bundle, signed where that is wished for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from expunge_agent.protocol import sshsig
from expunge_controller import pdf_signing
from expunge_controller.bundle import SignedBytes
from expunge_controller.context import Controller
from expunge_controller.pdf_made import make_pdf
from expunge_controller.render.pdf_certificate import certificate_data
from expunge_controller.render.pdf_words import Language

if TYPE_CHECKING:
    from pyhanko.sign.timestamps import TimeStamper


def pdf_maker(
    controller: Controller, language: Language, *, sign: bool, timestamper: TimeStamper | None = None
) -> Callable[[Mapping[str, bytes]], SignedBytes]:
    """For `BundleParts.pdf`: the PDF, and the controller's detached signature of it.

    `sign`: with a PAdES signature inside, too. What it makes raises what `make_pdf` and `sign_pdf` raise.
    """

    def made(files: Mapping[str, bytes]) -> SignedBytes:
        data = make_pdf(certificate_data(files, language, signed=sign))
        if sign:
            data = pdf_signing.sign_pdf(data, controller.home, timestamper)
        return SignedBytes(data, sshsig.sign(controller.signer, sshsig.CERTIFICATE_NAMESPACE, data))

    return made
