"""Documents for people: certificates to HTML."""
