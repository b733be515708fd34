"""The controller: sends signed orders, collects receipts, keeps certificates, custody and the bundle an auditor gets."""

__version__ = "0.1.0"
