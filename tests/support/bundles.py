"""What the check of a bundle finds."""

from __future__ import annotations

from expunge_agent.protocol.trust import TrustedSigner
from expunge_controller.records.bundle_check import verify_bundle
from expunge_controller.records.findings import Step, failures
from expunge_controller.records.log_check import LogOutside
from expunge_controller.render.bundle_readme import readme
from expunge_controller.render.certificate_html import certificate_html
from support.evidence import PROFILE


def steps_of(
    files: dict[str, bytes], trusted: list[TrustedSigner] | None = None, outside: LogOutside | None = None
) -> dict[str, Step]:
    """The steps by title, for an auditor who brings these keys and knows this of the log."""
    steps = verify_bundle(
        files,
        trusted,
        page=certificate_html,
        readme=readme,
        profiles={PROFILE.digest: PROFILE},
        log=outside or LogOutside(),
    )
    return {step.title: step for step in steps}


def failed(steps: dict[str, Step]) -> dict[str, str]:
    """Which of them failed, and why."""
    return {step.title: step.detail for step in failures(steps.values())}
