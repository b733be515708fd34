"""Pure records: custody events, certificates, bundles and their verification."""
